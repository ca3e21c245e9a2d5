"""A Linux device's head and coder, LiteRT on CPython, beside a board's, viper on MicroPython: µs an image."""

import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.head import LiteRtHead, encode_into
from lab.bench.interpreter import Worker
from models.head import Head
from models.headfile import HeadFile
from slimwire.errors import SlimwireError

ROUNDS = 21
_TURNS = 20  # runs a turn; short turns: a scheduler that takes the processor away spoils few of them
_HEAP = "96k"


def measure(head: HeadFile, image: npt.NDArray[np.uint8], rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians over `rounds` rounds, each of which runs both at every width.

    Args:
        image: (H, W, C) uint8.

    Returns:
        `runtime`, the LiteRT that runs; `widths`: for each `width` and `macs`, microseconds an image as
        `litert_us` (the head of `slimwire device run`: reference kernels, from image to symbols), `viper_us`
        (the firmware's, in memory) and their ratio `times`, and `coder_us` (the coder of `device run`).

    Raises:
        SlimwireError: the two disagree in a symbol, or MicroPython is missing.
    """
    ours = LiteRtHead(head.emit(), 0)
    pixels = image.tobytes()
    buffer = memoryview(bytearray(4096))
    samples: dict[tuple[int, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "head.bin").write_bytes(head.emit())
        (folder / "image").write_bytes(pixels)
        files = [str(folder / "head.bin"), str(folder / "image"), "ram"]
        with Worker("head.py", files, heap=_HEAP) as worker:
            for turn in range(rounds + 1):
                for index in range(len(head.widths)):
                    ours.set_width(index)
                    taken, symbols = _timed(lambda: ours.run(pixels))
                    coding, _ = _timed(lambda: encode_into(symbols, len(symbols), ours, buffer))  # noqa: B023
                    viper, answer = worker.ask(f"{index} 5").split()
                    _check(
                        index, symbols, bytes.fromhex(answer), Head(head).run(image[None], index).tobytes()
                    )
                    if turn:  # the first round warms up
                        for kind, value in (("litert", taken), ("viper", float(viper)), ("coder", coding)):
                            samples.setdefault((index, kind), []).append(value)
    rows = []
    for index, width in enumerate(head.widths):
        median = {kind: statistics.median(samples[index, kind]) for kind in ("litert", "viper", "coder")}
        rows.append(
            {"width": width.width, "macs": head.macs(index)}
            | {f"{kind}_us": round(value, 1) for kind, value in median.items()}
            | {"times": round(median["viper"] / median["litert"], 2)}
        )
    return {"runtime": _runtime(), "widths": rows}


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    for _ in range(_TURNS):
        result = function()
    return (time.perf_counter() - start) / _TURNS * 1e6, result


def _check(index: int, ours: bytes, theirs: bytes, expected: bytes) -> None:
    if not ours == theirs == expected:
        raise SlimwireError(
            f"LiteRT, the firmware and the reference give different symbols at width {index}",
            remedy="this is a bug in a kernel: please report it with the bundle",
        )


def _runtime() -> str:
    for name in ("ai-edge-litert", "tflite-runtime"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
