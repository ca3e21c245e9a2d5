"""Changing the width on the device, against loading a separate model for each width, on MicroPython."""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.bench.interpreter import HEAP, Worker
from models.headfile import CONV, DEPTHWISE, HeadFile, Layer

ROUNDS = 15
_HEAPS = {"ram": "96k", "flash": HEAP}
_ORDER = 40


def measure(head: HeadFile, seed: int = 1, rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians over `rounds` rounds, each of which does both.

    Args:
        seed: of the order in which widths are switched to.

    Returns:
        `switch_us`: microseconds of `set_width`; `reload_us`: of opening, checking and allocating the head
        of a width from a file that has only that width, the mean of the widths; `heap_bytes`: what switches
        leave allocated; `flash`: the same three where the head is left in its file. A switch reads nothing
        there either: the next run reads its width's weights as every run does (`viper_flash_us` of
        `lab.bench.head` has that).

    Raises:
        SlimwireError: MicroPython is missing or failed.
    """
    order = " ".join(map(str, np.random.default_rng(seed).integers(len(head.widths), size=_ORDER)))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "head.bin"]
        files[0].write_bytes(head.emit())
        for index in range(len(head.widths)):
            files.append(Path(folder) / f"head{index}.bin")
            files[-1].write_bytes(single_width(head, index).emit())
        results = {}
        for mode, memory in _HEAPS.items():
            with Worker("switch.py", [mode, *map(str, files)], heap=memory) as worker:
                samples = [tuple(map(float, worker.ask(order).split())) for _ in range(rounds)]
            results[mode] = _figures(samples)
    return results["ram"] | {"flash": results["flash"]}


def _figures(samples: list[tuple[float, ...]]) -> dict[str, Any]:
    switch, reload, heap = zip(*samples, strict=True)
    return {
        "switch_us": round(statistics.median(switch), 3),
        "reload_us": round(statistics.median(reload), 1),
        "heap_bytes": int(max(heap, key=abs)),
    }


def single_width(head: HeadFile, index: int) -> HeadFile:
    """The head a device would have if it ran one width only: its share of the weights, its tables."""
    width = head.widths[index]
    layers, blocks, offset = [], [], 0
    for i, (layer, inputs, outputs) in enumerate(
        zip(head.layers, head.in_channels(index), width.out_channels, strict=True)
    ):
        weights = head.layer_weights(i)
        if layer.op == DEPTHWISE:
            weights = weights[:, :, :outputs]
        elif layer.op == CONV:
            weights = weights[:outputs, :, :, :inputs]
        else:
            weights = weights[:outputs, :inputs]
        layers.append(Layer(layer.op, layer.stride, layer.act, inputs, outputs, offset))
        blocks.append(weights.reshape(-1))
        offset += weights.size
    return replace(head, layers=tuple(layers), weights=np.concatenate(blocks), widths=(width,))
