"""Answers as a device hears them: verified fragment by fragment with the same chain."""

import asyncio
from collections import Counter

import pytest

from gateway.downlink import Downlink, DownlinkLimits, Reply, reply_frames
from gateway.links.base import Received
from security.chain import KeyedChain
from tests.gateway.kit import GATEWAY, PAN, Node, sealed_bytes
from wire import eui64, lowpan
from wire.ieee802154 import MacFrame
from wire.message import PORT, FirstSlice, Kind

NODE = Node()


def hear(frames: list[bytes], node: Node = NODE) -> tuple[int, bytes]:
    """What the device reads out of these frames: counter and sealed answer; every slice is verified."""
    chain = KeyedChain()
    addresses = (eui64.link_local(GATEWAY), eui64.link_local(node.eui))
    packets = []
    for frame in frames:
        mac = MacFrame.parse(frame)
        assert (mac.src, mac.dst, mac.pan, mac.ack_request) == (GATEWAY, node.eui, PAN, True)
        packets.append(lowpan.parse(mac.payload, mac.src, mac.dst))
    head, *rest = packets
    if isinstance(head, lowpan.Unfragmented):
        first = FirstSlice.parse(head.payload, len(head.payload))
    else:
        assert isinstance(head, lowpan.First)
        first = FirstSlice.parse(head.udp_payload_slice, head.payload_length)
        assert head.tag == first.counter & 0xFFFF
    assert first.kind is Kind.REPLY
    assert chain.verify_first(node.keys.frag_dn, addresses, (PORT, PORT), first.payload_length, first)
    sealed = first.sealed
    for i, packet in enumerate(rest, 1):
        assert isinstance(packet, lowpan.Next)
        assert first.slice_at(i) == (packet.udp_payload_offset, len(packet.data))
        assert chain.verify_slice(node.keys.frag_dn, node.eui, first, i, packet.data)
        sealed += packet.data
    assert len(rest) == first.n
    return first.counter, sealed


@pytest.mark.parametrize("length", [22, 85, 86, 88, 160, 400, 1100])
def test_a_device_verifies_every_frame_of_an_answer_of_any_length(length: int) -> None:
    sealed = sealed_bytes(length)
    reply = Reply(NODE.eui, NODE.epoch, 70000, sealed, PAN, NODE.keys.frag_dn)
    frames = reply_frames(GATEWAY, reply, 250)
    assert hear(frames) == (70000, sealed)
    assert [MacFrame.parse(frame).seq for frame in frames] == [(250 + i) & 0xFF for i in range(len(frames))]


def test_the_same_answer_is_the_same_frames_again() -> None:
    reply = Reply(NODE.eui, 0, 5, sealed_bytes(200), PAN, NODE.keys.frag_dn)
    assert reply_frames(GATEWAY, reply, 0) == reply_frames(GATEWAY, reply, 0)


class Wire:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.sent: list[bytes] = []
        self.heard = asyncio.Event()
        self.description = "a list"

    async def receive(self) -> Received:
        raise NotImplementedError

    async def send(self, frame: bytes) -> None:
        self.sent.append(frame)
        self.heard.set()

    def learn(self, source: bytes, origin: object) -> None:
        pass

    def close(self) -> None:
        pass


async def test_the_queue_is_bounded_and_too_large_answers_are_counted() -> None:
    link, counters = Wire(), Counter[str]()
    downlink = Downlink(link, DownlinkLimits(gap=0.0, queue=2), counters)
    for counter, length in ((1, 22), (2, 22), (3, 1230), (4, 22)):
        downlink.put(GATEWAY, Reply(NODE.eui, 0, counter, sealed_bytes(length), PAN, NODE.keys.frag_dn))
    task = asyncio.create_task(downlink.run())
    await asyncio.wait_for(link.heard.wait(), 5)
    task.cancel()
    assert [hear([frame])[0] for frame in link.sent] == [4]
    assert counters == {"downlink-full": 2, "downlink-unroutable": 1}


def answer(counter: int) -> Reply:
    return Reply(NODE.eui, 0, counter, sealed_bytes(22), PAN, NODE.keys.frag_dn)


async def test_who_brings_answers_waits_until_there_is_room_for_them() -> None:
    link, counters = Wire(), Counter[str]()
    downlink = Downlink(link, DownlinkLimits(gap=0.0, queue=3, patience=3600.0), counters)
    assert await downlink.room(2) == 2
    assert await downlink.room(99) == 3  # more never wait
    downlink.put(GATEWAY, answer(1))
    downlink.put(GATEWAY, answer(2))
    assert await downlink.room(1) == 1
    waiting = asyncio.create_task(downlink.room(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    sending = asyncio.create_task(downlink.run())
    await asyncio.wait_for(waiting, 5)
    sending.cancel()
    assert link.sent
    assert not counters


async def test_a_radio_that_takes_nothing_holds_nobody_up() -> None:
    downlink = Downlink(Wire(), DownlinkLimits(queue=1, patience=0.0), Counter())
    downlink.put(GATEWAY, answer(1))
    assert await asyncio.wait_for(downlink.room(1), 5) == 1
    assert len(downlink) == 1
