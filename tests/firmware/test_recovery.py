"""Selective recovery at the device: against the real gateway over a bad radio, and on the downlink."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.ccm import block_cipher
from firmware.hmac import pad
from firmware.hop import downlink, uplink
from firmware.lowpan import FRAME_MAX
from firmware.message import AROUND, Message
from firmware.receiver import ANSWER, Receiver
from firmware.recoverable import Recoverable
from firmware.recovery import Recovery
from gateway.events import Accepted, Acknowledge, Hint
from gateway.receiver import Receiver as Gateway
from security.chain import KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import PaperTrust
from tests.firmware.loopback import DEVICE, EPOCH, GATEWAY, PAN, SITE, Arrived, Hub, log, start, write_device
from tests.firmware.test_device import HEAP, SHAPE, head, of
from wire import latent, lowpan
from wire.ieee802154 import FrameKind, MacFrame
from wire.message import FirstSlice
from wire.reply import Answer
from wire.rfrag import FULL_BITMAP, NULL_BITMAP, Rfrag, RfragAck

HUB = Hub()
HUB.close()
LONG = Answer(1, cls=3, confidence=40000, unix_time=1_790_000_000, detail="a long remark " * 19)
__all__ = ["head"]


def gateway() -> Gateway:
    device = Device(DEVICE, "device", {EPOCH: HUB.gateway_keys})
    return Gateway(GatewayRegistry(GATEWAY, SITE, devices={DEVICE: device}), KeyedChain(), PaperTrust())


def to_device(payload: bytes) -> bytes:
    return MacFrame(FrameKind.DATA, 0, PAN, DEVICE, GATEWAY, payload, True, version=1).emit(fcs=False)


class Radio:
    """What is between a device's `Recovery` and the gateway's receiver; `lost` decides about each frame."""

    def __init__(self, seed: int, loss: float, *, forge: bool = False) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.forge = forge
        self.gateway = gateway()
        self.recovery = Recovery(True, 10)
        self.message = Message(
            DEVICE,
            EPOCH,
            pad(HUB.gateway_keys.frag_up),
            block_cipher(HUB.edge_keys.msg_up),
            uplink(DEVICE, GATEWAY, PAN),
            bytearray(AROUND + 1100),
        )
        self.accepted: list[bytes] = []
        self.frames = 0
        self.now = 0.0

    gap_ms = 0

    async def send(self, frame: memoryview) -> None:
        """As a link."""
        self.frames += 1
        self.now += 0.005
        if self.random.random() >= self.loss:
            for event in self.gateway.on_frame(MacFrame.parse(bytes(frame), fcs=False).emit(), self.now):
                if isinstance(event, Accepted):
                    self.accepted.append(event.sealed)
                if isinstance(event, Acknowledge) and self.random.random() >= self.loss:
                    self.hear(event.tag, event.bitmap)
        if self.forge and self.random.random() < 0.3:
            bitmap = self.random.choice((NULL_BITMAP, FULL_BITMAP, 1, self.random.getrandbits(32)))
            self.hear(self.message.counter & 0xFF, bitmap)

    def hear(self, tag: int, bitmap: int) -> None:
        frame = memoryview(to_device(RfragAck(tag, bitmap).emit()))
        assert self.recovery.fields(frame, None, "truncated") == "hint"

    def message_sent(self, counter: int, length: int, attempts: int = 3) -> bool:
        """Send as the agent does; whether the message arrived."""
        self.message.body[:length] = self.random.randbytes(length)
        self.message.seal(counter, 1, 0, 0, length)
        for attempt in range(attempts):
            self.now += 1.0
            out = memoryview(bytearray(FRAME_MAX))
            if not asyncio.run(self.recovery.send(self.message, out, self, attempt)):
                for i in range(self.message.frames):
                    asyncio.run(self.send(out[: self.message.frame(i, out)]))
            if bytes(self.message.sealed) in self.accepted:
                return True
        return False


@pytest.mark.parametrize("length", [100, 400, 1100])
def test_nothing_is_sent_twice_over_a_good_link(length: int):
    radio = Radio(1, 0.0)
    assert radio.message_sent(5, length)
    assert radio.frames == radio.message.frames


def test_over_a_bad_link_less_is_sent_than_whole_messages():
    radio = Radio(3, 0.2)
    delivered = [radio.message_sent(counter, 1100) for counter in range(1, 11)]
    assert all(delivered)
    assert radio.frames < 10 * 13 * 2


def test_forged_hints_cost_frames_and_never_a_message():
    radio = Radio(7, 0.1, forge=True)
    assert all(radio.message_sent(counter, 700, attempts=4) for counter in range(1, 6))
    assert radio.frames < 5 * 2 * (3 * 9 + 36) + 5 * 4 * 9
    assert radio.gateway.memory_used == 0


def test_a_gateway_that_never_acknowledges_is_asked_less_and_less():
    """Two messages in vain, then 64 by RFC 4944 without a word, then it is tried again."""
    radio = Radio(1, 0.0)
    radio.hear = lambda tag, bitmap: None
    costs = []
    for counter in range(1, 70):
        before = radio.frames
        assert radio.message_sent(counter, 150)
        costs.append(radio.frames - before)
    n = radio.message.frames
    assert costs[2:66] == [n] * 64
    assert min(costs[0], costs[1], costs[66]) > n


def test_recovery_begins_with_the_first_loss_and_ends_with_a_good_link():
    radio = Radio(1, 0.0)
    radio.recovery = Recovery(False, 10)
    assert not asyncio.run(_try(radio, 1, 0))
    assert asyncio.run(_try(radio, 1, 1))
    used = [asyncio.run(_try(radio, counter, 0)) for counter in range(2, 22)]
    assert used == [True] * 15 + [False] * 5


async def _try(radio: Radio, counter: int, attempt: int) -> bool:
    radio.message.seal(counter, 1, 0, 0, 200)
    done: bool = await radio.recovery.send(radio.message, memoryview(bytearray(FRAME_MAX)), radio, attempt)
    return done


def receiver(counter: int = 9) -> Receiver:
    made = Receiver(
        DEVICE,
        GATEWAY,
        EPOCH,
        pad(HUB.gateway_keys.frag_dn),
        block_cipher(HUB.edge_keys.msg_dn),
        downlink(DEVICE, GATEWAY, PAN),
    )
    made.recovery = Recoverable(True, 100)
    made.expect(counter)
    return made


def recoverable(counter: int, answer: Answer, ask: int = 0xFFFFFFFF) -> list[bytes]:
    """The answer's frames in recoverable fragments; `ask`: bit i, whether fragment i asks."""
    frames = [MacFrame.parse(frame, fcs=False) for frame in HUB.answer(counter, answer)]
    parts = [lowpan.parse(frame.payload, GATEWAY, DEVICE) for frame in frames]
    payload = parts[0].udp_payload_slice + b"".join(part.data for part in parts[1:])
    step = 8 * FirstSlice.parse(parts[0].udp_payload_slice, len(payload)).step
    first = len(parts[0].udp_payload_slice)
    fragments = lowpan.recoverable(GATEWAY, DEVICE, 0xF0B0, 0xF0B0, payload, counter, first, step)
    for fragment in fragments:
        fragment.ack_request = bool(ask >> fragment.sequence & 1)
    return [to_device(fragment.emit()) for fragment in fragments]


class Ears:
    """The message's part in an acknowledgement."""

    def header(self) -> bytearray:
        return bytearray(uplink(DEVICE, GATEWAY, PAN)[0])


def ack(made: Receiver) -> int | None:
    """The bitmap that the device sends after the last frame."""
    frame = made.recovery.ack(Ears(), made)
    if frame is None:
        return None
    mac = MacFrame.parse(bytes(frame), fcs=False)
    assert (mac.src, mac.dst, mac.pan) == (DEVICE, GATEWAY, PAN)
    parsed = RfragAck.parse(mac.payload)
    assert parsed.tag == 9
    (hint,) = gateway().on_frame(mac.emit(), 0.0)
    assert hint == Hint(DEVICE, 9, parsed.bitmap)
    return parsed.bitmap


@given(
    st.permutations(range(1, 4)), st.lists(st.integers(0, 3), max_size=4), st.lists(st.booleans(), min_size=4)
)
def test_an_answer_in_recoverable_fragments_and_in_both_forms(order, doubled, plain):
    frames = recoverable(9, LONG)
    usual = HUB.answer(9, LONG)
    made = receiver()
    seen = set()
    for index in [0, *order[:2], *doubled, *order[2:]]:
        if len(seen) == 4:
            break
        event = made.on_frame(usual[index] if plain[index] else frames[index])
        seen.add(index)
        if not plain[index]:
            expected = FULL_BITMAP if len(seen) == 4 else sum(1 << 31 - i for i in seen)
            assert ack(made) == expected
        assert (event == ANSWER) is (len(seen) == 4)
    if len(seen) == 4:
        assert made.answer[5] == LONG.detail


def test_one_recoverable_fragment_may_overtake_the_first():
    frames = recoverable(9, Answer(2, detail="x" * 90))
    made = receiver()
    assert made.on_frame(frames[1]) == 0
    assert ack(made) == NULL_BITMAP
    assert made.on_frame(frames[0]) == ANSWER
    assert ack(made) == FULL_BITMAP
    assert made.rejected == {}
    # The acknowledgement got lost; the gateway asks again.
    assert made.on_frame(frames[0]) == 0
    assert ack(made) == FULL_BITMAP


def test_what_did_not_authenticate_itself_is_acknowledged_four_times():
    frames = recoverable(9, LONG)
    made = receiver()
    made.on_frame(frames[0])
    assert ack(made) == 0x80000000
    sent = 0
    for _ in range(50):
        made.on_frame(frames[0])
        sent += ack(made) is not None
    assert sent == 4
    made.on_frame(frames[1])
    assert ack(made) == 0xC0000000


def other(index: int, **changes: object) -> bytes:
    fragment = Rfrag.parse(MacFrame.parse(recoverable(9, LONG)[index], fcs=False).payload)
    for name, value in changes.items():
        setattr(fragment, name, value)
    return to_device(fragment.emit())


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (other(1, offset=0), "recovery-abort"),
        (other(0, tag=8), "wrong-tag"),
        (other(2, payload=b""), "bad-offset"),
        (other(2, offset=6), "bad-offset"),
        (other(2, offset=1300), "bad-offset"),
        (other(2, offset=100), "wrong-cut"),
        (other(2, payload=bytes(88)), "wrong-cut"),
        (other(2, payload=bytes(96)), "bad-tag"),
        (other(0, offset=200), "bad-mac"),
        (other(0, offset=20), "bad-size"),
        (other(0, payload=b"\x7e\x33\xf3\x00\0\0"), "bad-header"),
        (other(0, payload=b"\x41" + bytes(90)), "bad-header"),
        (to_device(b"\xe8\x09\x00\x00"), "truncated"),
        (to_device(b"\xe8\x09\x00\x05\x00\x50"), "bad-size"),
        (to_device(b"\xea\x09" + bytes(4)), "hint"),
        (to_device(b"\xea\x09" + bytes(3)), "truncated"),
        (to_device(b"\xea\x09" + bytes(5)), "bad-header"),
    ],
)
def test_what_is_refused_costs_only_itself(frame: bytes, reason: str):
    frames = recoverable(9, LONG)
    made = receiver()
    made.on_frame(frames[0])
    made.on_frame(frames[1])
    assert made.on_frame(frame) == 0
    assert made.rejected == {reason: 1}
    assert [made.on_frame(frame) for frame in frames[2:]] == [0, ANSWER]


@given(st.binary(max_size=104), st.integers(0xE8, 0xEB), st.integers(0, 9))
def test_no_bytes_raise(payload: bytes, dispatch: int, tag: int):
    made = receiver()
    made.on_frame(recoverable(9, LONG)[0])
    made.on_frame(to_device(bytes((dispatch, tag)) + payload[:102]))
    ack(made) if made.recovery._ask else None
    assert made.accepted == 1


class BadRadio(Hub):
    """A hub whose receiver is the gateway's own, over a link that loses a fifth of all frames."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.random = random.Random(11)
        self.gateway = gateway()
        self.clock = 0.0
        self.kinds: set[int] = set()

    def take(self, frame: bytes) -> Arrived | None:
        self.kinds.add(MacFrame.parse(frame).payload[0] & 0xFC)
        if self.random.random() < 0.2:
            return None
        self.clock += 0.01
        arrived = None
        for event in self.gateway.on_frame(frame, self.clock):
            if isinstance(event, Acknowledge) and self.random.random() >= 0.2:
                self.pending.append(to_device(RfragAck(event.tag, event.bitmap).emit()))
            if isinstance(event, Accepted):
                sealed = event.sealed
                arrived = Arrived(event.counter, b"", [], sealed, latent.InnerHeader(0, 0), b"")
        return arrived


def test_a_device_over_a_bad_radio(tmp_path: Path, head):
    """Real MicroPython, the gateway's own receiver, a fifth of all frames lost: every message is answered."""
    hub = BadRadio()
    write_device(tmp_path, head.emit(), SHAPE, hub.port, recovery="always", deadline_ms=600, retries=5)
    try:
        assert hub.serve(start(tmp_path, 2.0, HEAP)) == ""
    finally:
        hub.close()
    lines = log(tmp_path)
    assert len(of(lines, "answer")) == len({line["c"] for line in of(lines, "sent")}) >= 3
    assert of(lines, "lost") == []
    assert 0xE8 in hub.kinds
    assert of(lines, "rx")[-1]["rejected"]["hint"] > 0
