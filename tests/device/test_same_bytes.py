"""MicroPython's kernels and LiteRT's give the same frames, byte for byte: one agent, two interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from device.head import LiteRtHead, encode_into
from firmware import rans
from firmware.head import Head
from tests.device.conftest import HEAD, WITHOUT_REPORT
from tests.firmware.loopback import REPOSITORY, Arrived, Hub
from tests.headgen import random_head
from wire.reply import Answer

_MICROPYTHON = """\
import sys
sys.path.append(".frozen")
import firmware.message
firmware.message.link_report = lambda duration, retries, queue: 0
import firmware.main
firmware.main.run(sys.argv[1])
"""


def on_micropython(path: Path, script: str | None = None) -> subprocess.Popen[str]:
    micropython = Path(sys.executable).with_name("micropython")
    (path / "start.py").write_text(script or "")
    program = ["-m", "firmware.main"] if script is None else [str(path / "start.py")]
    return subprocess.Popen(
        [str(micropython), "-X", "heapsize=128k", *program, str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "MICROPYPATH": f"{REPOSITORY}:.frozen"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def served(hub: Hub, process: subprocess.Popen[str], messages: int, widths: int) -> list[Arrived]:
    """What a device sent, in `messages` messages over all widths, answered at once."""
    hub.arrived.clear()
    hub.reply = lambda hub, message: hub.answer(message.counter, Answer(message.counter % widths, cls=1))
    hub.serve(process, messages=messages)
    return hub.arrived[:messages]


def test_the_first_message_is_the_same_in_every_byte(micropython, both, hub: Hub):
    board, linux = both(hub.port, log="log.jsonl", deadline_ms=10_000)
    (first,) = served(hub, on_micropython(board.path), 1, 4)
    (second,) = served(hub, linux.start(), 1, 4)
    assert first.frames == second.frames
    assert first.header.report == second.header.report


@pytest.mark.parametrize("head", ["shipped", "random"])
def test_a_conversation_over_every_width_is_the_same_in_every_byte(micropython, both, hub: Hub, head):
    """Forty messages of twenty images at four widths; the link report, which tells times, tells nothing."""
    # LiteRT knows multipliers of 24 significant bits, as the export makes them.
    data = None if head == "shipped" else random_head(11, (20, 9, 2), mult_bits=24).emit()
    board, linux = both(hub.port, head_data=data, log="log.jsonl", deadline_ms=10_000, period_ms=10)
    first = served(hub, on_micropython(board.path, _MICROPYTHON), 40, 4)
    second = served(hub, linux.start(script=WITHOUT_REPORT), 40, 4)
    assert len(first) == len(second) == 40
    assert {message.header.width for message in first} == {0, 1, 2, 3}
    assert [message.frames for message in first] == [message.frames for message in second]


def test_head_and_coder_are_the_firmwares_at_every_width():
    """Random heads, also of odd sizes and of layers that the shipped one has not."""
    rng = np.random.default_rng(5)
    for seed, shape, layers in (
        (1, (28, 28, 1), None),
        (2, (13, 10, 3), ((0, 1, 8), (0, 2, 12), (1, 2, 12), (2, 1, 8))),
        (3, (32, 1, 6), ((0, 2, 16), (2, 1, 8))),
    ):
        data = random_head(seed, shape, **({"layers": layers} if layers else {}), mult_bits=24).emit()
        reference, ours = Head(data), LiteRtHead(data, 10)
        assert (ours.widths, ours.shape, ours.levels, ours.model_tag) == (
            reference.widths,
            reference.shape,
            reference.levels,
            reference.model_tag,
        )
        for width in range(len(ours.widths)):
            image = rng.integers(0, 256, int(np.prod(shape)), dtype=np.uint8).tobytes()
            reference.set_width(width)
            ours.set_width(width)
            symbols = bytes(reference.run(image))
            assert ours.run(image) == symbols
            there, here = bytearray(3 * len(symbols)), bytearray(3 * len(symbols))
            length = rans.encode_into(symbols, len(symbols), reference, there)
            assert encode_into(symbols, len(symbols), ours, memoryview(here)) == length
            assert here[:length] == there[:length]


def test_a_latent_that_does_not_fit_is_refused_as_the_firmware_refuses_it():
    head = LiteRtHead(HEAD.read_bytes(), 10)
    symbols = head.run(bytes(len(head.image)))
    with pytest.raises(ValueError, match="does not fit 5 bytes"):
        encode_into(symbols, len(symbols), head, memoryview(bytearray(5)))
    with pytest.raises(ValueError, match="symbols"):
        encode_into(symbols[:-1], len(symbols), head, memoryview(bytearray(2000)))
    with pytest.raises(ValueError, match="width 4 of 4"):
        head.set_width(4)
