"""Viper code as a 32-bit board would run it: on CPython, every result of an operator checked against 32 bits.

The x86-64 port's viper has 64-bit integers and can't show an overflow. Here each binary operator's result,
address arithmetic included, must fit a signed 32-bit integer; one that does not raises OverflowError where
a board would wrap.
"""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import firmware

LIMIT = 1 << 31


def load(name: str) -> SimpleNamespace:
    """The functions of `firmware/<name>.py`, checked."""
    path = Path(firmware.__file__).parent / f"{name}.py"
    return execute(path.read_text("utf-8"), f"firmware.{name}")


def execute(source: str, name: str = "firmware.checked") -> SimpleNamespace:
    """What the source defines, checked."""
    tree = ast.fix_missing_locations(_Checked().visit(ast.parse(source)))
    scope: dict[str, Any] = {"__name__": name, "__package__": "firmware", "_int32": _int32}
    exec(compile(tree, name, "exec"), scope)
    return SimpleNamespace(**scope)


def _int32(value: Any) -> Any:
    if isinstance(value, int) and not -LIMIT <= value < LIMIT:
        raise OverflowError(f"{value} does not fit 32 bits")
    return value


class _Checked(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.Call:
        self.generic_visit(node)
        return _call(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        self.generic_visit(node)
        if not isinstance(node.target, ast.Name):
            return node
        value = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        return ast.Assign([node.target], _call(value))


def _call(value: ast.expr) -> ast.Call:
    return ast.Call(ast.Name("_int32", ast.Load()), [value], [])
