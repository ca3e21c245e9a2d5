"""The head on MicroPython, against plain Python there, numpy and C at -O2: microseconds an image."""

import ctypes
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.bench.interpreter import Worker
from lab.bench.plain import write_firmware
from models.head import Head
from models.headfile import LATENT, HeadFile
from slimwire.errors import SlimwireError

ROUNDS = 21
_SOURCE = Path(__file__).with_name("head.c")
# Short turns: a scheduler that takes the processor away spoils few of them.
_REPETITIONS = {"viper": 5, "viper_flash": 5, "plain": 1, "numpy": 2, "c": 10}
_RAM_HEAP = "96k"
_PLAIN_HEAP = "256k"  # plain kernels are bytecode in the heap; viper's are not

#: Runs an image `repetitions` times at a width: (microseconds a run, symbols).
_Runner = Callable[[int, int], tuple[float, bytes]]


def measure(head: HeadFile, image: npt.NDArray[np.uint8], rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Medians over `rounds` rounds, each of which runs every implementation at every width.

    Args:
        image: (H, W, C) uint8.

    Returns:
        for each width: `width`, `macs` and microseconds an image as `viper_us` (the head in memory),
        `viper_flash_us` (the head left in its file, here in the system's cache), `plain_us` (as `viper_us`,
        the same kernels without viper), `numpy_us` (the reference, batch of one) and `c_us` (None without a C
        compiler).

    Raises:
        SlimwireError: two implementations disagree in a symbol, or MicroPython is missing.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "head.bin").write_bytes(head.emit())
        (folder / "image").write_bytes(image.tobytes())
        write_firmware(folder)
        files = [str(folder / "head.bin"), str(folder / "image")]
        viper = stack.enter_context(Worker("head.py", [*files, "ram"], heap=_RAM_HEAP))
        flash = stack.enter_context(Worker("head.py", [*files, "flash"]))
        plain = stack.enter_context(Worker("head.py", [*files, "ram"], path=folder, heap=_PLAIN_HEAP))
        runners: dict[str, _Runner | None] = {
            "viper": _micropython(viper),
            "viper_flash": _micropython(flash),
            "plain": _micropython(plain),
            "numpy": _numpy(head, image),
            "c": _compiled(head, image, folder),
        }
        samples: dict[tuple[int, str], list[float]] = {}
        for turn in range(rounds + 1):
            for index in range(len(head.widths)):
                for name, runner in runners.items():
                    if runner is None:
                        continue
                    microseconds, symbols = runner(index, _REPETITIONS[name])
                    _check(name, index, symbols, Head(head).run(image[None], index).tobytes())
                    if turn:  # the first round warms up
                        samples.setdefault((index, name), []).append(microseconds)
    return [
        {"width": width.width, "macs": head.macs(index)}
        | {f"{name}_us": _median(samples.get((index, name))) for name in runners}
        for index, width in enumerate(head.widths)
    ]


def _median(values: list[float] | None) -> float | None:
    return round(statistics.median(values), 2) if values else None


def _check(name: str, index: int, symbols: bytes, expected: bytes) -> None:
    if symbols != expected:
        wrong = sum(a != b for a, b in zip(symbols, expected, strict=False)) + abs(
            len(symbols) - len(expected)
        )
        raise SlimwireError(
            f"{name} gives other symbols than the reference at width {index}",
            expected=f"{len(expected)} equal bytes, {wrong} differ",
            remedy="this is a bug in a kernel: please report it with the bundle",
        )


def _micropython(worker: Worker) -> _Runner:
    def run(index: int, repetitions: int) -> tuple[float, bytes]:
        microseconds, symbols = worker.ask(f"{index} {repetitions}").split()
        return float(microseconds), bytes.fromhex(symbols)

    return run


def _numpy(head: HeadFile, image: npt.NDArray[np.uint8]) -> _Runner:
    reference = Head(head)

    def run(index: int, repetitions: int) -> tuple[float, bytes]:
        start = time.perf_counter()
        for _ in range(repetitions):
            symbols = reference.run(image[None], index)
        return (time.perf_counter() - start) / repetitions * 1e6, symbols.tobytes()

    return run


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("op", "stride", "height", "width", "channels", "out")),
        *((name, ctypes.c_int32) for name in ("full_in", "full_out", "center", "top")),
        *((name, ctypes.c_void_p) for name in ("weights", "mult", "bias", "shift")),
    )


def _compiled(head: HeadFile, image: npt.NDArray[np.uint8], folder: Path) -> _Runner | None:
    """The head in C, compiled into `folder`; None, with a message, where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        print_no_compiler()
        return None
    library = folder / "head.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
    function = ctypes.CDLL(str(library)).head
    function.restype = ctypes.c_double
    grids = head.grids()
    keep: list[npt.NDArray[Any]] = []  # what the structures point to

    def pointer(values: npt.NDArray[Any]) -> int:
        keep.append(np.ascontiguousarray(values))
        return keep[-1].ctypes.data

    widths = []
    for index, width in enumerate(head.widths):
        layers = (_Layer * len(head.layers))()
        for i, layer in enumerate(head.layers):
            latent = layer.act == LATENT
            layers[i] = _Layer(
                layer.op,
                layer.stride,
                *grids[i],
                head.in_channels(index)[i],
                width.out_channels[i],
                layer.in_channels,
                layer.out_channels,
                head.center if latent else 0,
                head.levels - 1 if latent else 255,
                pointer(head.layer_weights(i)),
                pointer(width.mult[i].astype(np.int32)),
                pointer(width.bias[i].astype(np.int32)),
                pointer(width.rshift[i].astype(np.int32)),
            )
        widths.append(layers)
    channels = [head.input[2], *(layer.out_channels for layer in head.layers)]
    largest = max((h + 2) * (w + 2) * c for (h, w), c in zip(grids, channels, strict=True))
    scratch = ctypes.create_string_buffer(3 * largest)
    pixels = pointer(image)

    def run(index: int, repetitions: int) -> tuple[float, bytes]:
        n = int(np.prod(head.latent_shape(index)))
        symbols = ctypes.create_string_buffer(n)
        nanoseconds = function(
            widths[index],
            len(head.layers),
            ctypes.c_void_p(pixels),
            symbols,
            n,
            scratch,
            largest,
            repetitions,
        )
        assert keep
        return nanoseconds / 1000, symbols.raw

    return run


def print_no_compiler() -> None:
    """Say on stderr why the C column is empty."""
    from slimwire.output import stderr  # noqa: PLC0415

    stderr.print("no C compiler (`cc`) on the PATH: c_us is null", style="yellow")
