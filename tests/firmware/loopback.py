"""A gateway and an edge server in one small object, for devices under test: real UDP, the formats of
`wire`, the keys of `security`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from firmware.counter import slot
from security import chain, custody, seal
from security.keys import derive_edge, derive_gateway
from wire import latent, lowpan
from wire.eui64 import link_local
from wire.ieee802154 import MacFrame
from wire.message import FirstSlice, Kind, datagram_tag, octet0
from wire.reply import Answer, CustodyStatus
from wire.zep import ZepFrame

REPOSITORY = Path(__file__).parents[2]
DEVICE = bytes.fromhex("0200000000000001")
GATEWAY = bytes.fromhex("02000000000000fe")
ROOT = bytes(range(32))
SITE = "lab"
PAN = 0x23F0
EPOCH = 0


def settings(port: int, **changes: object) -> dict[str, object]:
    """device.json of the device under test."""
    return {
        "format": 1,
        "eui64": DEVICE.hex(),
        "epoch": EPOCH,
        "site": SITE,
        "gateway": GATEWAY.hex(),
        "root": ROOT.hex(),
        "link": {"type": "zep", "host": "127.0.0.1", "port": port, "channel": 26, "pan": "0x23f0"},
        "source": {"type": "file", "path": "camera.bin"},
        "period_ms": 30,
        "deadline_ms": 1000,
        "retries": 2,
        "log": "log.jsonl",
    } | changes


def camera(count: int, shape: tuple[int, int, int], seed: int = 1) -> bytes:
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return b"SWC1" + struct.pack("<HBBB3x", count, *shape) + images.tobytes()


def write_device(root: Path, head: bytes, shape: tuple[int, int, int], port: int, **changes: object) -> None:
    """All files of a device in the directory `root`."""
    (root / "device.json").write_text(json.dumps(settings(port, **changes)))
    (root / "head.bin").write_bytes(head)
    (root / "camera.bin").write_bytes(camera(20, shape))
    for name in ("counter.a", "counter.b"):
        (root / name).write_bytes(slot(1))


def start(root: Path, seconds: float, heap: str | None, package: Path = REPOSITORY) -> subprocess.Popen[str]:
    """The device as a process: a real MicroPython with that heap, or CPython for None; package: the folder
    with `firmware`.
    """
    module = ["-m", "firmware.main", str(root), str(seconds)]
    if heap is None:
        command = [sys.executable, *module]
    else:
        micropython = Path(sys.executable).with_name("micropython")
        command = [str(micropython), "-X", f"heapsize={heap}", *module]
    return subprocess.Popen(
        command,
        cwd=package,
        env={**os.environ, "MICROPYPATH": "."},  # as on a board, where it is /lib: paths are interned
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def log(root: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]


@dataclass
class Arrived:
    """One whole datagram of the device."""

    counter: int
    payload: bytes
    frames: list[bytes]
    sealed: bytes
    header: latent.InnerHeader
    coded: bytes


@dataclass
class Hub:
    """Receives what one device sends, checks every frame of it, and sends back what `reply` makes of a
    message.

    reply: from what arrived to the frames to send (without FCS), in order; by default a plain answer.
    """

    reply: Callable[[Hub, Arrived], list[bytes]] = lambda hub, message: hub.answer(message.counter)
    arrived: list[Arrived] = field(default_factory=list)
    pending: list[bytes] = field(default_factory=list)  # frames to send before anything else
    port: int = 0  # another than 0: it comes late, and may hear the end of a message first

    def __post_init__(self) -> None:
        self._late = self.port != 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self.gateway_keys = derive_gateway(ROOT, DEVICE, EPOCH, SITE)
        self.edge_keys = derive_edge(ROOT, DEVICE, EPOCH)
        self.verifier = chain.KeyedChain()
        self._first: FirstSlice | None = None
        self._checksum = 0
        self._parts: dict[int, bytes] = {}
        self._frames: list[bytes] = []
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def serve(self, process: subprocess.Popen[str], timeout: float = 60, messages: int | None = None) -> str:
        """Until the device ends, by itself or by Ctrl-C after so many messages; what it printed."""
        end = time.monotonic() + timeout
        self._socket.settimeout(0.05)
        try:
            while process.poll() is None:
                assert time.monotonic() < end, "the device did not end"
                try:
                    data, peer = self._socket.recvfrom(512)
                except TimeoutError:
                    continue
                message = self.take(ZepFrame.parse(data).frame)
                while self.pending:
                    self.send(self.pending.pop(0), peer)
                if message:
                    self.arrived.append(message)
                    for frame in self.reply(self, message):
                        self.send(frame, peer)
                    if len(self.arrived) == messages:
                        process.send_signal(signal.SIGINT)
        finally:
            process.kill()
            output, _ = process.communicate()
        return output

    def send(self, frame: bytes, peer: tuple[str, int]) -> None:
        """A frame without FCS to the device."""
        mac = MacFrame.parse(frame, fcs=False)
        self._sequence += 1
        self._socket.sendto(ZepFrame(26, 1, 255, self._sequence, mac.emit()).emit(), peer)

    def take(self, frame: bytes) -> Arrived | None:
        """Check a frame of the device; the datagram if it was its last one."""
        mac = MacFrame.parse(frame)
        assert (mac.src, mac.dst, mac.pan, mac.ack_request) == (DEVICE, GATEWAY, PAN, True)
        part = lowpan.parse(mac.payload, mac.src, mac.dst)
        keys = self.gateway_keys
        addresses = (link_local(DEVICE), link_local(GATEWAY))
        if isinstance(part, lowpan.Next):
            if self._first is None and self._late:
                return None
            assert self._first is not None
            assert part.tag == datagram_tag(self._first.counter)
            assert part.datagram_size == self._first.payload_length + 48
            i = self._first.index_of(part.udp_payload_offset, len(part.data))
            assert i is not None
            assert self.verifier.verify_slice(keys.frag_up, DEVICE, self._first, i, part.data)
            self._parts[i] = part.data
        else:
            data = part.payload if isinstance(part, lowpan.Unfragmented) else part.udp_payload_slice
            length = len(data) if isinstance(part, lowpan.Unfragmented) else part.payload_length
            assert (part.src16, part.dst16) == addresses
            assert (part.sport, part.dport) == (0xF0B0, 0xF0B0)
            first = FirstSlice.parse(data, length)
            assert self.verifier.verify_first(
                keys.frag_up, addresses, (part.sport, part.dport), length, first
            )
            assert first.cut_problem is None
            if isinstance(part, lowpan.First):
                assert part.tag == datagram_tag(first.counter)
            self._first, self._checksum, self._parts, self._frames = first, part.checksum, {}, []
        self._frames.append(frame)
        first = self._first
        if len(self._parts) < first.n:
            return None
        payload = first.data + b"".join(self._parts[i] for i in sorted(self._parts))
        whole = lowpan.Unfragmented(*addresses, 0xF0B0, 0xF0B0, self._checksum, payload)
        assert whole.checksum_is_good
        sealed = payload[first.sealed_start :]
        header, coded = latent.parse(
            seal.open_up(self.edge_keys, DEVICE, first.octet0, first.counter, sealed)
        )
        return Arrived(first.counter, payload, self._frames, sealed, header, coded)

    def answer(self, counter: int, answer: Answer | None = None) -> list[bytes]:
        """The frames (without FCS) of an answer to `counter`."""
        octet = octet0(Kind.REPLY, EPOCH)
        sealed = seal.seal_down(
            self.edge_keys, octet, counter, (answer or Answer(1, cls=7, confidence=65535)).emit()
        )
        return self.reply_frames(counter, sealed)

    def reply_frames(self, counter: int, sealed: bytes, key: bytes | None = None) -> list[bytes]:
        """The frames of sealed bytes, authenticated with the gateway's key or with another one."""
        slices = chain.make(
            key or self.gateway_keys.frag_dn,
            DEVICE,
            link_local(GATEWAY),
            link_local(DEVICE),
            octet0=octet0(Kind.REPLY, EPOCH),
            counter=counter,
            sealed=sealed,
            single_room=98,
            first_room=88,
            slice_room=96,
        )
        return self.frames(counter, b"".join(slices), len(slices[0]) if len(slices) > 1 else None)

    def frames(self, counter: int, payload: bytes, first: int | None) -> list[bytes]:
        parts = lowpan.udp_frames(
            GATEWAY,
            DEVICE,
            0xF0B0,
            0xF0B0,
            payload,
            datagram_tag(counter),
            self._sequence,
            PAN,
            first_slice=first,
            ack_request=True,
        )
        return [part.emit(fcs=False) for part in parts]

    def custody(self, counter: int, status: CustodyStatus) -> list[bytes]:
        ack = custody.make(
            self.gateway_keys.frag_dn, GATEWAY, DEVICE, epoch=EPOCH, counter=counter, status=status
        )
        return self.frames(counter, ack.emit(), None)
