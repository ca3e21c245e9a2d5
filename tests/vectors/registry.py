"""Which implementation must meet which golden vectors, and the one way to get at them.

    @pytest.mark.parametrize("case", claim("chain.json", "security"), ids=case_name)

`claim` gives the cases and says that this implementation meets all of them. `test_registry.py` names every
pair of `REQUIRED` that no test claims.
"""

import ast
import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent
TESTS = VECTORS.parent

# Implementations: the rooms `wire`, `security`, `provisioning`, and `firmware` (run by a real MicroPython).
REQUIRED: dict[str, set[str]] = {
    "answer.json": {"wire", "firmware"},
    "batch.json": {"wire"},
    "chain.json": {"security", "firmware"},
    "custody.json": {"security", "firmware"},
    "epoch.json": {"firmware", "provisioning"},
    "frames.json": {"wire", "firmware"},
    "iphc.json": {"wire"},
    "journey.json": {"security", "firmware"},
    "keys.json": {"security", "firmware"},
    "latent.json": {"wire", "firmware"},
    "mac.json": {"wire"},
    "mqtt.json": {"wire", "firmware"},
    "rans.json": {"wire", "firmware"},
    "registry-signature.json": {"security"},
    "recoverable.json": {"wire", "firmware"},
    "recovery.json": {"wire", "firmware"},
    "rfrag.json": {"wire"},
    "seal.json": {"security", "firmware"},
    "zep.json": {"wire"},
}


def claim(vector_file: str, implementation: str) -> list[dict[str, Any]]:
    """The cases of a vector file, which the calling test module checks `implementation` against."""
    assert implementation in REQUIRED[vector_file], f"add {implementation} to REQUIRED[{vector_file!r}]"
    cases: list[dict[str, Any]] = json.loads((VECTORS / vector_file).read_text(encoding="utf-8"))["cases"]
    assert cases, f"{vector_file} has no cases"
    return cases


def case_name(case: dict[str, Any]) -> str:
    return str(case["name"])


def claimed() -> set[tuple[str, str]]:
    """(vector file, implementation) of every `claim("...", "...")` in the tests, read from their sources.

    So the list is whole whatever part of the tests is being run.
    """
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", getattr(node.func, "attr", "")) == "claim"
            ):
                arguments = [a.value for a in node.args if isinstance(a, ast.Constant)]
                if len(arguments) == 2:
                    found.add((str(arguments[0]), str(arguments[1])))
    return found
