"""The firmware's kernels as plain Python: the same loops, line for line, without viper's compiler and its
pointers.

`int(p)` of a pointer becomes the position `p_at` in its buffer, `p = ptr8(e)` becomes `p_at = e`, `p[i]`
becomes `p[p_at + i]`. That is right because a pointer in the kernels never moves to another buffer.
"""

import ast
import shutil
from pathlib import Path

from lab.bench.interpreter import firmware_root

_POINTERS = {"ptr8": 1, "ptr16": 2, "ptr32": 4}
_MODULES = ("__init__.py", "compat.py", "head.py", "headcheck.py", "headfile.py", "headplan.py")


def write_firmware(folder: Path) -> None:
    """Write a `firmware` package whose kernels are plain Python, with what the head needs, into `folder`."""
    package = folder / "firmware"
    package.mkdir()
    source = firmware_root() / "firmware"
    for name in _MODULES:
        shutil.copyfile(source / name, package / name)
    (package / "kernels.py").write_text(without_viper((source / "kernels.py").read_text("utf-8")), "utf-8")


def without_viper(source: str) -> str:
    """Plain Python of a module with viper functions."""
    module = ast.parse(source)
    for index, node in enumerate(module.body):
        if isinstance(node, ast.FunctionDef) and any(map(_is_viper, node.decorator_list)):
            module.body[index] = ast.fix_missing_locations(_Function(node).rewritten())
    return ast.unparse(module)


def _is_viper(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Attribute) and decorator.attr == "viper"


class _Function(ast.NodeTransformer):
    """Rewrites one viper function."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self._function = function
        self._sizes = {
            arg.arg: _POINTERS[arg.annotation.id]
            for arg in function.args.args
            if isinstance(arg.annotation, ast.Name) and arg.annotation.id in _POINTERS
        }
        # Only pointers that move need a position.
        self._moving = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in self._sizes
        }

    def rewritten(self) -> ast.FunctionDef:
        function = self._function
        function.decorator_list = []
        function.returns = None
        for arg in function.args.args:
            arg.annotation = None
        function.body = [self.visit(node) for node in function.body]
        starts = [ast.parse(f"{name}_at = 0").body[0] for name in sorted(self._moving)]
        function.body = starts + function.body
        return function

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name):
            argument = node.args[0]
            if node.func.id == "int" and isinstance(argument, ast.Name) and argument.id in self._sizes:
                return ast.Name(f"{argument.id}_at") if argument.id in self._moving else ast.Constant(0)
            if node.func.id in _POINTERS:
                return argument
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        target = node.targets[0]
        self.generic_visit(node)
        if isinstance(target, ast.Name) and target.id in self._moving:
            node.targets = [ast.Name(f"{target.id}_at", ast.Store())]
            if self._sizes[target.id] > 1:  # positions count words
                node.value = ast.BinOp(node.value, ast.FloorDiv(), ast.Constant(self._sizes[target.id]))
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.Subscript:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in self._moving:
            at = ast.Name(f"{node.value.id}_at")
            if isinstance(node.slice, ast.Constant) and node.slice.value == 0:
                node.slice = at
            else:
                node.slice = ast.BinOp(at, ast.Add(), node.slice)
        return node
