"""Selective recovery through the service and the downlink: acknowledgements, and answers in pieces."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.downlink import Downlink, DownlinkLimits, Reply, reply_fragments, reply_frames
from gateway.enrolment import Enrolment
from gateway.links.base import Received
from gateway.service import Service
from gateway.settings import load
from security.chain import KeyedChain
from security.trust import PaperTrust
from tests.gateway.kit import GATEWAY, PAN, Node, save_registry, sealed_bytes
from tests.gateway.test_downlink import Wire, hear
from wire.ieee802154 import MacFrame
from wire.recovery import RecoverableDatagram
from wire.rfrag import FULL_BITMAP, NULL_BITMAP, Rfrag, RfragAck

NODE = Node()
SEALED = sealed_bytes(600)
REPLY = Reply(NODE.eui, 0, 5, SEALED, PAN, NODE.keys.frag_dn, recoverable=True)
LIMITS = DownlinkLimits(gap=0.0, ack_wait=0.02)


class Device(Wire):
    """A device that collects an answer; `lost` decides about each frame, both ways, by its number."""

    def __init__(self, lost: Callable[[], bool] = lambda: False, *, speaks: bool = True) -> None:
        super().__init__()
        self.datagram = RecoverableDatagram()
        self.plain: list[bytes] = []
        self.whole = asyncio.Event()
        self.downlink = Downlink(self, LIMITS, self.counters)
        self._lost, self._speaks = lost, speaks

    async def send(self, frame: bytes) -> None:
        await super().send(frame)
        mac = MacFrame.parse(frame)
        assert (mac.src, mac.dst, mac.pan, mac.ack_request) == (GATEWAY, NODE.eui, PAN, True)
        if self._lost():
            return
        if mac.payload[0] != 0xE8:
            self.plain.append(frame)
            if len(self.plain) == len(reply_frames(GATEWAY, REPLY, 0)):
                self.whole.set()
            return
        if not self._speaks:
            return
        fragment = Rfrag.parse(mac.payload)
        assert fragment.tag == 5
        self.datagram.add(fragment)
        if fragment.ack_request and not self._lost():
            self.downlink.on_hint(NODE.eui, 5, self.datagram.ack_bitmap)
        if self.datagram.complete:
            self.whole.set()

    async def run(self) -> None:
        self.downlink.put(GATEWAY, REPLY)
        task = asyncio.create_task(self.downlink.run())
        await asyncio.wait_for(self.whole.wait(), 20)
        for _ in range(1000):  # what it heard last may have to be acted on
            if not len(self.downlink):
                break
            await asyncio.sleep(0.01)
        task.cancel()
        assert len(self.downlink) == 0


async def test_an_answer_goes_once_where_nothing_is_lost() -> None:
    device = Device()
    await device.run()
    assert (
        device.datagram.octets()[6:]
        == b"".join(fragment.payload for fragment in reply_fragments(GATEWAY, REPLY))[6:]
    )
    assert len(device.sent) == len(reply_fragments(GATEWAY, REPLY))
    assert [MacFrame.parse(frame).seq for frame in device.sent] == list(range(len(device.sent)))


@pytest.mark.parametrize("seed", range(5))
async def test_over_a_bad_radio_only_what_is_missing_goes_again(seed: int) -> None:
    random_ = random.Random(seed)
    device = Device(lambda: random_.random() < 0.2)
    await device.run()
    assert device.datagram.complete or hear(device.plain) == (5, SEALED)


async def test_a_device_that_does_not_speak_it_gets_rfc_4944() -> None:
    device = Device(speaks=False)
    await device.run()
    assert hear(device.plain) == (5, SEALED)


async def test_forged_hints_do_not_keep_an_answer_from_a_device_that_is_there() -> None:
    """Aborts and bits of nowhere are answered by fragment 0, a few times, and then by RFC 4944."""
    device = Device(speaks=False)

    async def forge() -> None:
        for i in range(100):
            device.downlink.on_hint(NODE.eui, 5, (NULL_BITMAP, 1)[i % 2])
            await asyncio.sleep(0.002)

    forger = asyncio.create_task(forge())
    await device.run()
    forger.cancel()
    assert hear(device.plain) == (5, SEALED)
    assert len(device.sent) < 60


async def test_a_hint_about_nothing_is_counted() -> None:
    link, counters = Wire(), Counter[str]()
    downlink = Downlink(link, LIMITS, counters)
    downlink.on_hint(NODE.eui, 5, FULL_BITMAP)
    assert counters == {"stray-ack": 1}


async def test_an_answer_of_one_frame_and_too_many_at_once_go_plainly() -> None:
    link, counters = Wire(), Counter[str]()
    downlink = Downlink(link, DownlinkLimits(gap=0.0, ack_wait=60, exchanges=1), counters)
    downlink.put(GATEWAY, Reply(NODE.eui, 0, 4, sealed_bytes(22), PAN, NODE.keys.frag_dn, recoverable=True))
    downlink.put(GATEWAY, REPLY)
    downlink.put(GATEWAY, replace(REPLY, counter=6))
    task = asyncio.create_task(downlink.run())
    for _ in range(100):
        await asyncio.sleep(0.001)
    task.cancel()
    kinds = [MacFrame.parse(frame).payload[0] & 0xF8 for frame in link.sent]
    n = len(reply_frames(GATEWAY, REPLY, 0))
    assert kinds == [0x78, *[0xE8] * n, 0xC0, *[0xE0] * (n - 1)]


class Air(Wire):
    """Gives the service frames, and keeps what it sends."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: asyncio.Queue[Received] = asyncio.Queue()
        self.learnt: list[bytes] = []
        self.two = asyncio.Event()

    async def send(self, frame: bytes) -> None:
        await super().send(frame)
        if len(self.sent) == 2:
            self.two.set()

    async def receive(self) -> Received:
        return await self.frames.get()

    def learn(self, source: bytes, origin: object) -> None:
        self.learnt.append(source)


async def test_the_service_acknowledges_and_knows_the_way_from_what_authenticated_itself(
    tmp_path: Path,
) -> None:
    air = Air()
    path = save_registry(tmp_path / "registry.json", NODE)
    service = Service(
        load(edge="http://edge"), KeyedChain(), PaperTrust(), air, Enrolment(path, create=False)
    )
    frames = NODE.recoverable(9, SEALED, ask=[0, 2])
    task = asyncio.create_task(service.run())
    air.frames.put_nowait(Received(frames[2], None, 255, 0.0))
    air.frames.put_nowait(Received(frames[0], None, 255, 0.0))
    await asyncio.wait_for(air.two.wait(), 5)
    task.cancel()
    acks = [MacFrame.parse(frame) for frame in air.sent]
    assert [(mac.src, mac.dst, mac.pan) for mac in acks] == [(GATEWAY, NODE.eui, PAN)] * 2
    assert [RfragAck.parse(mac.payload) for mac in acks] == [
        RfragAck(9, NULL_BITMAP),
        RfragAck(9, 0xA0000000),
    ]
    assert acks[0].seq != acks[1].seq
    assert air.learnt == [NODE.eui]
