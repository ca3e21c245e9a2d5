"""A device with a radio co-processor: its frames in SLIP over a pty, on a real MicroPython and on CPython."""

from __future__ import annotations

import os
import select
import subprocess
import time
import tty
from pathlib import Path

import numpy as np
import pytest

from firmware.build import compile_to
from tests.firmware.loopback import REPOSITORY, Arrived, Hub, log, start, write_device
from tests.headgen import random_head
from wire import slip
from wire.ieee802154 import MacFrame

SHAPE = (12, 12, 1)
LAYERS = ((0, 2, 8), (1, 1, 8), (2, 1, 8))


@pytest.mark.parametrize("heap", ["80k", None], ids=["micropython", "cpython"])
def test_every_sample_arrives_and_is_answered_over_a_serial_line(tmp_path: Path, heap: str | None) -> None:
    made = random_head(5, SHAPE, LAYERS)
    for width in made.widths:
        width.freqs[:] = np.array([200] * 8 + [312] * 8)
    end, port = os.openpty()
    tty.setraw(end)
    subprocess.run(["stty", "-F", os.ttyname(port), "raw", "-echo", "min", "0", "time", "0"], check=True)
    package = REPOSITORY
    if heap:
        package = tmp_path / "lib"
        compile_to(package, "x64")
    root = tmp_path / "device"
    root.mkdir()
    link = {"type": "uart", "path": os.ttyname(port), "pan": "0x23f0"}
    write_device(root, made.emit(), SHAPE, 1, link=link)
    hub = Hub()
    process = start(root, 2, heap, package)
    decoder = slip.Decoder()
    arrived: list[Arrived] = []
    os.write(end, b"noise\xc0\xdb\x00\xc0" + slip.encode(b"no frame"))
    ends = time.monotonic() + 40
    try:
        while process.poll() is None:
            assert time.monotonic() < ends, "the device did not end"
            if not select.select([end], [], [], 0.05)[0]:
                continue
            for packet in decoder.feed(os.read(end, 4096)):
                assert packet is not None
                message = hub.take(packet)
                if message is None:
                    continue
                arrived.append(message)
                for frame in hub.answer(message.counter):
                    os.write(end, slip.encode(MacFrame.parse(frame, fcs=False).emit()))
    finally:
        process.kill()
        output, _ = process.communicate()
        hub.close()
        os.close(end)
        os.close(port)
    assert output == ""
    lines = log(root)
    answered = [line for line in lines if line["e"] == "answer"]
    assert len(answered) == len(arrived) >= 8
    rejected = [line for line in lines if line["e"] == "rx"][-1]["rejected"]
    assert rejected == {"bad-fcs": 2, "bad-slip": 1}
