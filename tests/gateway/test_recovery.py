"""Selective recovery (RFC 8931) at the gateway: the same chain and accounts, and hints that stay hints."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.admission import Limits
from gateway.events import Accepted, Acknowledge, Hint, Kept, Verified
from gateway.receiver import Receiver
from tests.gateway.kit import GATEWAY, PAN, Node, accepted, acks, feed, reasons, receiver, sealed_bytes
from wire import eui64
from wire.ieee802154 import MacFrame
from wire.ipv6 import udp_checksum
from wire.message import PORT
from wire.recovery_sender import Progress, RecoverySender
from wire.rfrag import FULL_BITMAP, NULL_BITMAP, Rfrag, RfragAck

NODE = Node(1)
SEALED = sealed_bytes(500)
FRAMES = NODE.recoverable(7, SEALED, ask=range(7))
N = len(FRAMES)


def bits(*sequences: int) -> int:
    return sum(1 << 31 - sequence for sequence in sequences)


def test_each_fragment_is_verified_and_acknowledged_and_the_last_completes() -> None:
    target = receiver(NODE)
    for i, frame in enumerate(FRAMES[:-1]):
        event, ack = target.on_frame(frame, 0.0)
        assert event == Verified(NODE.eui)
        assert ack == Acknowledge(NODE.eui, PAN, 7, bits(*range(i + 1)))
    message, ack = target.on_frame(FRAMES[-1], 0.0)
    assert isinstance(message, Accepted)
    assert (message.counter, message.sealed, message.frames, message.pan) == (7, SEALED, N, PAN)
    assert ack == Acknowledge(NODE.eui, PAN, 7, FULL_BITMAP)
    assert target.memory_used == 0


def test_nobody_who_does_not_ask_is_told() -> None:
    assert acks(feed(receiver(NODE), NODE.recoverable(7, SEALED))) == []


@given(st.permutations(range(N)))
def test_any_order(order: list[int]) -> None:
    """What comes before fragment 0 waits unverified, and is not acknowledged as there."""
    target = receiver(NODE)
    seen: set[int] = set()
    for index in order:
        events = target.on_frame(FRAMES[index], 0.0)
        seen.add(index)
        (bitmap,) = acks(events)
        if 0 not in seen:
            assert (events[0], bitmap) == (Kept(NODE.eui), NULL_BITMAP)
        elif len(seen) < N:
            assert bitmap == bits(*seen)
        else:
            assert bitmap == FULL_BITMAP
            assert [message.sealed for message in accepted(events)] == [SEALED]


@given(st.lists(st.booleans(), min_size=N, max_size=N), st.permutations(range(N)))
def test_one_datagram_may_come_in_both_forms(plain: list[bool], order: list[int]) -> None:
    """A sender that falls back to RFC 4944 sends only what it likes, in either form."""
    usual = NODE.frames(7, SEALED)
    target = receiver(NODE)
    frames = [usual[i] if plain[i] else FRAMES[i] for i in order]
    assert [message.sealed for message in accepted(feed(target, frames))] == [SEALED]
    assert target.early.used == 0


def test_a_late_copy_is_told_that_all_is_there() -> None:
    target = receiver(NODE)
    feed(target, FRAMES)
    events = target.on_frame(FRAMES[3], 0.1)
    assert (reasons(events), acks(events)) == (["already-complete"], [FULL_BITMAP])
    events = target.on_frame(FRAMES[0], 0.1)
    assert (reasons(events), acks(events)) == (["already-complete"], [FULL_BITMAP])


def test_a_used_counter_is_told_that_all_is_there() -> None:
    target = receiver(NODE)
    target.mark_used(NODE.eui, 0, 7)
    events = target.on_frame(FRAMES[0], 0.0)
    assert (reasons(events), acks(events)) == (["replayed"], [FULL_BITMAP])


def test_a_duplicate_is_told_the_state_and_a_forgery_nothing() -> None:
    target = receiver(NODE)
    feed(target, FRAMES[:2])
    events = target.on_frame(FRAMES[1], 0.0)
    assert (reasons(events), acks(events)) == (["duplicate"], [bits(0, 1)])
    for index in (1, 2):
        mac = MacFrame.parse(FRAMES[index])
        mac.payload = mac.payload[:-1] + bytes((mac.payload[-1] ^ 1,))
        events = target.on_frame(mac.emit(), 0.0)
        assert reasons(events) == ["overlap" if index == 1 else "bad-tag"]
        assert acks(events) == []


def test_acknowledgements_that_nothing_authenticated_asked_for_are_rationed() -> None:
    target = receiver(NODE)
    feed(target, FRAMES[:2])
    sent = sum(len(acks(target.on_frame(FRAMES[1], 0.001 * i))) for i in range(1000))
    assert 8 <= sent <= 13
    # What authenticates itself is acknowledged all the same.
    assert acks(target.on_frame(FRAMES[2], 1.0)) == [bits(0, 1, 2)]


def test_of_two_datagrams_with_one_tag_the_newest_is_meant() -> None:
    """Counters 256 apart have the same 8 bits. The older one can still be finished by RFC 4944."""
    target = receiver(NODE)
    old, new = sealed_bytes(300, 1), sealed_bytes(300, 2)
    assert NODE.recoverable(263, new)[0][21:23] == NODE.recoverable(7, old)[0][21:23] == b"\xe8\x07"
    feed(target, NODE.recoverable(7, old)[:2])
    assert accepted(feed(target, NODE.recoverable(263, new)))[0].counter == 263
    assert accepted(feed(target, NODE.frames(7, old)[2:]))[0].counter == 7


def other(index: int, **changes: object) -> bytes:
    """A fragment of the datagram under way with another header."""
    fragment = Rfrag.parse(MacFrame.parse(FRAMES[index]).payload)
    for name, value in changes.items():
        setattr(fragment, name, value)
    return NODE.mac(fragment.emit())


#: fragment_offset of fragment 2: the first slice and another, behind 6 octets of headers.
AT = 6 + 88 + 96


def inline() -> bytes:
    """Fragment 0 with its source address and ports in full: the same datagram, behind longer headers."""
    slices = NODE.slices(7, SEALED)
    payload = b"".join(slices)
    source, gateway = eui64.link_local(NODE.eui), eui64.link_local(GATEWAY)
    checksum = udp_checksum(source, gateway, PORT, PORT, payload)
    headers = b"\x7e\x03" + source + b"\xf0" + PORT.to_bytes(2, "big") * 2 + checksum.to_bytes(2, "big")
    return NODE.mac(Rfrag(7, 0, len(headers) + len(payload), headers + slices[0][:64]).emit())


@pytest.mark.parametrize("i", range(1, N))
def test_the_offset_of_a_later_fragment_is_that_of_its_slice_behind_six_octets(i: int) -> None:
    for offset in (88 + 96 * (i - 1) + headers for headers in range(1, 49) if headers != 6):
        for before in ([], FRAMES[:1]):
            target = receiver(NODE)
            feed(target, before)
            (event,) = target.on_frame(other(i, offset=offset, ack_request=False), 0.0)
            if before or (offset - 6) % 8:
                assert reasons([event]) == ["bad-offset"]
                assert target.early.used == 0
            else:
                assert event == Kept(NODE.eui)  # no manifest says yet where its slice begins


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (other(2, sequence=9), "bad-offset"),  # no such slice
        (other(2, sequence=3), "bad-offset"),  # a slice of another place
        (other(2, offset=1000), "bad-offset"),
        *((other(2, offset=AT + off), "bad-offset") for off in (-8, -7, -5, -1, 1, 2, 8, 40, 42)),
        (other(2, offset=6), "bad-offset"),
        (other(0, offset=0), "recovery-abort"),
        (inline(), "bad-size"),  # the headers of a recoverable datagram have 6 octets
        (other(2, payload=b""), "bad-length"),
        (other(2, payload=bytes(88)), "bad-length"),
        (other(2, payload=bytes(96)), "bad-tag"),
        (other(0, tag=8), "tag-mismatch"),
        (other(0, offset=300), "bad-mac"),  # another size
        (other(0, payload=b"\x41" + bytes(90)), "malformed-lowpan"),
        (NODE.mac(b"\xe8\x07\x00"), "malformed-lowpan"),
        (NODE.mac(b"\xe8\x07" + bytes(4)), "recovery-abort"),
        (NODE.mac(b"\xe8\x07\x08\x00\x00\x00"), "recovery-abort"),
    ],
)
def test_what_is_refused_costs_only_itself(frame: bytes, reason: str) -> None:
    target = receiver(NODE)
    feed(target, FRAMES[:2])
    assert reasons(target.on_frame(frame, 0.0)) == [reason]
    assert accepted(feed(target, FRAMES[2:]))[0].sealed == SEALED


@pytest.mark.parametrize("bitmap", [NULL_BITMAP, FULL_BITMAP, 1, 0xA5A5A5A5])
def test_an_acknowledgement_is_passed_on_as_a_hint(bitmap: int) -> None:
    target = receiver(NODE)
    feed(target, FRAMES[:2])
    before = target.memory_used
    assert target.on_frame(NODE.mac(RfragAck(7, bitmap).emit()), 0.0) == [Hint(NODE.eui, 7, bitmap)]
    assert target.memory_used == before
    assert accepted(feed(target, FRAMES[2:]))[0].sealed == SEALED


class BothEnds(RuleBasedStateMachine):
    """A device that sends with recovery, a gateway, an air that loses and repeats, and a forger of hints.

    The device is `RecoverySender`; what it is told comes from the gateway or from the forger. Only the
    gateway's acceptance, which stands for the custody ack, ends a message.
    """

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.target: Receiver = receiver(NODE, limits=Limits(memory=2560 + 4096 + 2000))
        self.now = 0.0
        self.counter = 0
        self.done: set[int] = set()
        self.sealed: dict[int, bytes] = {}
        self.history: list[bytes] = []
        self.cost = 0
        self.new_message(400, 32)

    @rule(length=st.integers(100, 1100), window=st.integers(1, 32))
    def new_message(self, length: int, window: int) -> None:
        self.counter += 1
        self.sealed[self.counter] = sealed_bytes(length, self.counter)
        self.frames = NODE.recoverable(self.counter, self.sealed[self.counter])
        self.asking = NODE.recoverable(self.counter, self.sealed[self.counter], ask=range(32))
        self.sender = RecoverySender(len(self.frames), window)
        self.cost = 0

    def hear(self, frame: bytes) -> None:
        events = self.target.on_frame(frame, self.now)
        assert events
        for event in events:
            if isinstance(event, Accepted):
                assert event.sealed == self.sealed[event.counter]
                self.done.add(event.counter)
            elif isinstance(event, Acknowledge) and event.tag == self.counter & 0xFF:
                self.answer = event.bitmap

    @rule(losses=st.integers(0, 2**16 - 1), ack_lost=st.booleans())
    def burst(self, losses: int, ack_lost: bool) -> None:
        """One burst; of its frames those are lost that the bits say, and perhaps the acknowledgement."""
        self.answer: int | None = None
        for i, (sequence, ask) in enumerate(self.sender.burst()):
            self.cost += 1
            frame = (self.asking if ask else self.frames)[sequence]
            self.history.append(frame)
            if not losses >> i % 16 & 1:
                self.hear(frame)
        if self.answer is not None and not ack_lost:
            self.sender.on_ack(self.answer)
        self.sender.settle()
        self.now += 0.05

    @rule(bitmap=st.one_of(st.integers(0, FULL_BITMAP), st.sampled_from([NULL_BITMAP, FULL_BITMAP, 1 << 31])))
    def forged_ack(self, bitmap: int) -> None:
        """To the device, and one in the device's name to the gateway."""
        self.sender.on_ack(bitmap)
        assert self.target.on_frame(NODE.mac(RfragAck(self.counter & 0xFF, bitmap).emit()), self.now) == [
            Hint(NODE.eui, self.counter & 0xFF, bitmap)
        ]

    @rule(sequence=st.integers(0, 31))
    def forged_abort(self, sequence: int) -> None:
        before = self.target.memory_used
        self.hear(NODE.mac(Rfrag(self.counter & 0xFF, sequence, 0, b"").emit()))
        assert self.target.memory_used == before

    @rule(pick=st.integers(0, 10_000), at=st.integers(0, 200), flip=st.integers(1, 255))
    def forged_fragment(self, pick: int, at: int, flip: int) -> None:
        if self.history:
            mac = MacFrame.parse(self.history[pick % len(self.history)])
            payload = bytearray(mac.payload)
            payload[at % len(payload)] ^= flip
            mac.payload = bytes(payload)
            self.hear(mac.emit())

    @rule(pick=st.integers(0, 10_000))
    def replay(self, pick: int) -> None:
        if self.history:
            self.hear(self.history[pick % len(self.history)])

    @rule(seconds=st.sampled_from([0.3, 5.0, 16.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.target.tick(self.now)

    @rule()
    def air_clears(self) -> None:
        """From any state the message gets through, by RFC 4944 where recovery was talked out of it."""
        for _ in range(40):
            if self.counter in self.done:
                return
            if self.sender.progress is Progress.FALLBACK:
                break
            if self.sender.progress is Progress.DONE:  # and nothing authenticated came
                self.sender = RecoverySender(len(self.frames), probe=True)
            self.burst(0, ack_lost=False)
        if self.counter not in self.done:
            for frame in NODE.frames(self.counter, self.sealed[self.counter]):
                self.hear(frame)
        assert self.counter in self.done

    @invariant()
    def bounds(self) -> None:
        target = self.target
        assert target.memory_used <= target.memory_bound
        account = target.peers[NODE.eui].account
        assert set(account.newest) == {tag & 0xFF for _, tag in account.open}
        assert all(datagram in account.open.values() for datagram in account.newest.values())
        assert self.cost <= 2 * (3 * len(self.frames) + 36)

    @invariant()
    def nothing_is_forged(self) -> None:
        assert all(eui == NODE.eui for eui in self.target.peers)
        assert self.target.trust.level(NODE.eui) == receiver(NODE).trust.level(NODE.eui)


TestBothEnds = BothEnds.TestCase
TestBothEnds.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
