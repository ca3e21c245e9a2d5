"""How much heap a head takes on a device: measured on a real MicroPython, the unix port.

The firmware's own loader and kernels run a picture at the widest width; what counts is how many bytes more
are allocated then, after a collection, than before the head was loaded: weights or their buffers, the widths'
sections with their coder tables, plans and activations, the picture among them. The code is not counted: it
is loaded before. Words are 8 bytes there and 4 on a board, so that objects take less on one; arrays do not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from models.errors import BundleError

HEAP = "1m"
# The code is there before the count begins: on a board it may lie in flash.
_SCRIPT = """
import gc, sys
import firmware.head, firmware.headcheck, firmware.headfile, firmware.headplan
gc.collect()
before = gc.mem_alloc()
head = firmware.head.Head(sys.argv[1], sys.argv[2])
head.set_width(len(head.widths) - 1)
head.run(head.image)
gc.collect()
print(gc.mem_alloc() - before)
"""
_SECONDS = 60


def find_micropython() -> str | None:
    """The interpreter of this environment, or the PATH's; None where there is none."""
    beside = Path(sys.executable).parent / "micropython"
    return str(beside) if beside.exists() else shutil.which("micropython")


def heap_bytes(head: bytes, mode: str = "ram") -> int | None:
    """Heap bytes of a head.bin; ``mode``: its weights in memory (ram), or left in the file (flash).

    None where there is no MicroPython. Raises BundleError when the head does not run on it.
    """
    program = find_micropython()
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path, script = Path(folder) / "head.bin", Path(folder) / "measure.py"
        path.write_bytes(head)
        script.write_text(_SCRIPT)
        command = [program, "-X", f"heapsize={HEAP}", str(script), str(path), mode]
        # the firmware lies beside this package, which does not import it
        environment = dict(os.environ, MICROPYPATH=f"{Path(__file__).resolve().parents[1]}:.frozen")
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BundleError(
                f"{program} did not run the head ({error}); expected its heap's bytes"
            ) from error
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode or not lines or not lines[-1].isdigit():
        raise BundleError(
            f"the head does not run on {program}: {lines[-1] if lines else 'it wrote nothing'}; "
            "expected its heap's bytes"
        )
    return int(lines[-1])
