"""The firmware's other links and fragments, under a Linux device: what is sent is what a board sends."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from tests.device.conftest import WITHOUT_REPORT, Directory
from tests.device.test_same_bytes import _MICROPYTHON, on_micropython
from tests.firmware.broker_side import Far
from tests.gateway.brokers import broker
from tests.headgen import random_head

HEAD = random_head(11, (20, 9, 2), mult_bits=24).emit()


def packets(process: subprocess.Popen[str], sink: socket.socket, count: int) -> list[bytes]:
    """The first frames of a device that nobody answers, without their ZEP headers."""
    found: list[bytes] = []
    end = time.monotonic() + 30
    try:
        while len(found) < count:
            assert time.monotonic() < end, process.poll()
            found.append(sink.recv(512)[32:])
    finally:
        process.kill()
        process.communicate()
    return found


def drain(sink: socket.socket) -> None:
    sink.setblocking(False)
    try:
        while sink.recv(512):
            pass
    except BlockingIOError:
        sink.settimeout(30)


def test_recoverable_fragments_are_the_same_in_every_byte(micropython, tmp_path: Path):
    """Without an acknowledgement: a message's fragments, and what is sent again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(30)
        sent = []
        for name in ("board", "linux"):
            (tmp_path / name).mkdir()
            changes = {"recovery": "always", "deadline_ms": 300, "retries": 2}
            made = Directory(tmp_path / name, sink.getsockname()[1], HEAD, **changes)
            if name == "board":
                process = on_micropython(made.path, _MICROPYTHON)
            else:
                process = made.start(script=WITHOUT_REPORT)
            sent.append(packets(process, sink, 6))
            drain(sink)
    assert sent[0] == sent[1]
    assert {frame[21] & 0xFE for frame in sent[0]} == {0xE8}  # RFRAG (RFC 8931, section 5.1)


def test_messages_through_a_broker_are_the_same_in_every_byte(micropython, tmp_path: Path):
    with broker("amqtt", tmp_path) as server:
        far = Far(server.port)
        try:
            arrived = []
            for name in ("board", "linux"):
                (tmp_path / name).mkdir()
                link = {"type": "mqtt", "host": "127.0.0.1", "port": server.port}
                made = Directory(
                    tmp_path / name, 1, HEAD, link=link, deadline_ms=300, retries=9, period_ms=20
                )
                if name == "board":
                    process = on_micropython(made.path, _MICROPYTHON)
                else:
                    process = made.start(script=WITHOUT_REPORT)
                far.arrived.clear()
                # The first one may come before the broker's subscriptions are there, and is sent again.
                far.serve(process, lambda: len({first.counter for first, _ in far.arrived}) >= 10)
                by_counter = {first.counter: sealed for first, sealed in far.arrived}
                arrived.append([by_counter[counter] for counter in range(1, 11)])
        finally:
            far.close()
    assert arrived[0] == arrived[1]
