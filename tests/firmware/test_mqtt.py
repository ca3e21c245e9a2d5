"""A Wi-Fi device, as a process, through real brokers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from firmware.build import compile_to
from firmware.links import mqtt as device_side
from gateway.broker import Files, access_text, config_text
from tests.firmware.broker_side import Far
from tests.firmware.loopback import DEVICE, GATEWAY, REPOSITORY, SITE, log, start, write_device
from tests.gateway.brokers import Authority, Server, broker, connections_of, free_port, until
from tests.headgen import random_head
from wire.reply import Answer

SHAPE = (12, 12, 1)
LAYERS = ((0, 2, 8), (1, 1, 8), (2, 1, 8))
HEAP = "80k"  # as in the demo
BROKERS = ["amqtt", pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto"))]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware compiled, as on a board."""
    out = tmp_path_factory.mktemp("lib")
    compile_to(out, "x64")
    return out


@pytest.fixture(scope="module")
def head() -> bytes:
    made = random_head(5, SHAPE, LAYERS)
    for width in made.widths:
        width.freqs[:] = np.array([200] * 8 + [312] * 8)
    return made.emit()


@pytest.fixture(params=BROKERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with broker(request.param, tmp_path) as running:
        yield running


@pytest.fixture
def far(server: Server) -> Iterator[Far]:
    made = Far(server.port)
    yield made
    made.close()


def write(root: Path, head: bytes, port: int, **changes: object) -> Path:
    root = root / "device"
    root.mkdir()
    link = {"type": "mqtt", "host": "127.0.0.1", "port": port}
    write_device(root, head, SHAPE, port, link=link, **changes)
    return root


def of(lines: list[dict[str, object]], event: str) -> list[dict[str, object]]:
    return [line for line in lines if line["e"] == event]


@pytest.mark.parametrize("heap", [HEAP, None], ids=["micropython", "cpython"])
def test_every_sample_arrives_in_one_piece_and_is_answered(
    tmp_path: Path, server: Server, far: Far, head: bytes, package: Path, heap: str | None
) -> None:
    root = write(tmp_path, head, server.port)
    assert (
        far.serve(start(root, 60, heap, package if heap else REPOSITORY), lambda: len(far.arrived) >= 12)
        == ""
    )
    lines = log(root)
    answered = [line["c"] for line in of(lines, "answer")]
    assert len(answered) >= 11
    assert set(answered) <= {first.counter for first, _ in far.arrived}
    assert max(len(payload) for _, payload in far.arrived) > 127  # more than a frame holds
    assert all(line["frames"] == 1 for line in of(lines, "sent"))
    assert of(lines, "rx")[-1]["rejected"] == {}
    assert far.states[-1] == b"offline"
    assert b"online" in far.states


def test_a_reply_in_several_pieces_and_packets_of_anybody(
    tmp_path: Path, server: Server, far: Far, head: bytes, package: Path
) -> None:
    def reply(far: Far, counter: int) -> list[bytes]:
        pieces = far.answer(counter, answer=Answer(1, cls=7, confidence=1, detail="d" * 200))
        assert len(pieces) == 3
        forged = pieces[1][:-1] + bytes([pieces[1][-1] ^ 1])
        return [pieces[2], b"", b"x" * 300, pieces[0][:-1], pieces[0], forged, *pieces[1:]]

    far.reply = reply
    root = write(tmp_path, head, server.port)
    far.serve(start(root, 60, HEAP, package), lambda: len(far.arrived) >= 8)
    lines = log(root)
    assert len(of(lines, "answer")) >= 7
    assert {line["detail"] for line in of(lines, "answer")} == {"d" * 200}
    rejected = of(lines, "rx")[-1]["rejected"]
    assert rejected.keys() == {"no-first", "truncated", "oversized", "bad-mac", "bad-tag"}


def test_the_device_survives_a_broker_that_comes_late_and_restarts(
    tmp_path: Path, head: bytes, package: Path
) -> None:
    port = free_port()
    root = write(tmp_path, head, port, deadline_ms=300)
    process = start(root, 90, HEAP, package)
    try:
        time.sleep(0.5)
        with broker("amqtt", tmp_path, port=port) as server:
            for _ in range(3):
                far = Far(port)
                deadline = time.monotonic() + 45
                while len(far.arrived) < 3:
                    assert process.poll() is None, process.communicate()
                    assert time.monotonic() < deadline, "the device did not come back"
                    time.sleep(0.05)
                assert far.wrong == []
                far.close()
                server.kill()
                server.start()
            far = Far(port)
            far.serve(process, lambda: len(far.arrived) >= 5)
            far.close()
    finally:
        process.kill()
    lines = log(root)
    counters = [line["c"] for line in of(lines, "sent")]
    assert counters == sorted(counters)
    # What its connections leave behind is collected.
    assert of(lines, "end")[0]["heap_free"] > of(lines, "start")[0]["heap_free"] // 2


def test_packets_are_not_held_back_by_the_device(
    tmp_path: Path, server: Server, far: Far, head: bytes, package: Path
) -> None:
    root = write(tmp_path, head, server.port)
    process = start(root, 60, HEAP, package)
    found: list[bool] = []

    def seen() -> bool:
        if far.arrived and not found:
            found.extend(connections_of(process.pid, server.port, remote=True))
        return bool(found)

    far.serve(process, seen)
    assert found == [True]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Server, Authority]]:
    """mosquitto that asks for certificates, with the files that Slimwire writes for it."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("broker")
    access = tmp_path / "slimwire.acl"
    access.write_text(access_text(SITE, GATEWAY))
    port = free_port()
    files = Files(authority.ca, certificate, key, authority.crl)
    config = config_text("127.0.0.1", port, files, access, tmp_path)
    with broker("mosquitto", tmp_path, f"user root\n{config}", port) as running:
        yield running, authority


def as_der(authority: Authority, root: Path, name: str) -> None:
    """The files of `firmware.links.tls` for a certificate of that name."""
    certificate, key = authority.issue(name)
    for source, target in ((authority.ca, "ca.der"), (certificate, "device.crt")):
        made = x509.load_pem_x509_certificate(source.read_bytes())
        (root / target).write_bytes(made.public_bytes(serialization.Encoding.DER))
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    (root / "device.key").write_bytes(
        secret.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("heap", [HEAP, None], ids=["micropython", "cpython"])
def test_over_tls_with_a_certificate_of_its_own(
    tmp_path: Path, guarded: tuple[Server, Authority], head: bytes, package: Path, heap: str | None
) -> None:
    server, authority = guarded
    root = write(tmp_path, head, server.port)
    settings = json.loads((root / "device.json").read_text())
    settings["link"]["tls"] = True
    (root / "device.json").write_text(json.dumps(settings))
    as_der(authority, root, DEVICE.hex())
    us = authority.issue(GATEWAY.hex())
    far = Far(server.port, tls=(authority.ca, *us))
    assert (
        far.serve(start(root, 60, heap, package if heap else REPOSITORY), lambda: len(far.arrived) >= 6) == ""
    )
    far.close()
    assert len(of(log(root), "answer")) >= 5
    assert far.states[-1] == b"offline"


class Recorded(socket.socket):
    """Remembers what each send was given."""

    sends: list[bytes]

    def send(self, data, *_):
        self.sends.append(bytes(data))
        return super().send(data)


async def test_a_packet_is_one_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorded.sends = []
    with broker("amqtt", tmp_path) as server:
        monkeypatch.setattr(device_side.socket, "socket", Recorded)
        link = device_side.MqttLink("127.0.0.1", server.port, DEVICE, SITE, "", 1232)
        link.reject = lambda reason: None
        receiving = asyncio.create_task(link.recv())
        await until(lambda: link._there)
        for length in (20, 90, 400, 1239):
            link.frame[:length] = os.urandom(length)
            await link.send(link.frame[:length])
        receiving.cancel()
        link.close()
    sends = Recorded.sends
    assert [data[0] for data in sends] == [0x10, 0x82, 0x32, 0x32, 0x32, 0x32, 0x31]
    for data, length in zip(sends[2:6], (20, 90, 400, 1239), strict=True):
        head = 2 if len(data) < 130 else 3
        assert len(data) == head + 2 + len(f"slimwire/v1/{SITE}/{DEVICE.hex()}/up") + 2 + length


async def test_a_broker_that_takes_nothing_and_then_goes_does_not_hold_the_device() -> None:
    """Its connection stands still with a message half sent; what listens notices, and drops it."""
    link = device_side.MqttLink("127.0.0.1", 1, DEVICE, SITE, "", 1232)
    ours, broker_end = socket.socketpair()
    with broker_end:
        ours.setblocking(False)
        link._socket, link._there = ours, True
        sending = asyncio.create_task(link._write(bytes(1 << 22)))  # more than the system keeps
        await asyncio.sleep(0.05)
        assert not sending.done()
        link._drop()
        async with asyncio.timeout(20):
            with pytest.raises(OSError, match="the broker is gone"):
                await sending
