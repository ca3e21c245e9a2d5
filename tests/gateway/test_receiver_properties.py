"""Whatever comes over the air: nothing forged gets through, memory is bounded, messages arrive."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.admission import Limits
from gateway.events import Accepted, Hint, Rejected
from gateway.reasons import Reason
from tests.gateway.kit import GATEWAY, PAN, Node, accepted, feed, receiver, sealed_bytes
from wire.ieee802154 import FrameKind, MacFrame

NODES = (Node(1), Node(2))
STRANGER = Node(9)
_LIMITS = Limits(memory=2 * 2560 + 4096 + 2000)


def _mac(payload: bytes, src: bytes = NODES[0].eui) -> bytes:
    return MacFrame(FrameKind.DATA, 0, PAN, GATEWAY, src, payload[:104]).emit()


#: MAC payloads that get far: arbitrary bytes behind each dispatch, and headers that fit an open datagram.
_payloads = st.one_of(
    st.binary(max_size=104),
    st.builds(
        lambda head, size, tag, rest: (head << 8 | size).to_bytes(2, "big") + tag.to_bytes(2, "big") + rest,
        st.sampled_from([0xC0, 0xE0]),
        st.integers(0, 2047),
        st.integers(0, 0xFFFF),
        st.binary(max_size=100),
    ),
    st.builds(
        lambda head, tag, word, offset, rest: (
            bytes((head, tag)) + word.to_bytes(2, "big") + offset.to_bytes(2, "big") + rest
        ),
        st.integers(0xE8, 0xEB),
        st.integers(0, 255),
        st.integers(0, 0xFFFF),
        st.integers(0, 1300),
        st.binary(max_size=98),
    ),
    st.builds(
        lambda tag, sequence, asks, rest: (
            b"\xe8" + bytes((tag, asks << 7 | sequence << 2, len(rest), 0, 94 + 96 * sequence - 96)) + rest
        ),
        st.integers(0, 3),
        st.integers(1, 2),
        st.booleans(),
        st.binary(max_size=98),
    ),
    st.builds(lambda rest: b"\x7e\x33\xf3\x00" + rest, st.binary(max_size=100)),
    st.builds(
        lambda tag, rest: b"\xc1\x80" + tag.to_bytes(2, "big") + b"\x7e\x33\xf3\x00\0\0" + rest,
        st.integers(0, 3),
        st.binary(min_size=40, max_size=88),
    ),
)


@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=140), _payloads.map(_mac)), max_size=20))
def test_no_bytes_raise_or_are_accepted_and_each_drop_is_counted(frames: list[bytes]) -> None:
    target = receiver(*NODES, limits=_LIMITS)
    hints = 0
    for frame in frames:
        events = target.on_frame(frame, 0.0)
        assert events
        assert not accepted(events)
        hints += isinstance(events[0], Hint)
    rejected = sum(target.counters.values()) - target.counters[Reason.EARLY_EVICTED] + hints
    kept = sum(len(mine) for mine in target.early._by_source.values())
    assert rejected + kept + target.counters[Reason.EARLY_EVICTED] == len(frames)
    assert set(target.counters) <= set(Reason)
    assert target.memory_used <= target.memory_bound


@settings(max_examples=200)
@given(
    length=st.integers(1, 1100),
    which=st.integers(0, 20),
    at=st.integers(0, 200),
    flip=st.integers(1, 255),
    cut=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_a_changed_byte_or_a_cut_end_never_gets_through(
    length: int, which: int, at: int, flip: int, cut: int, seed: int
) -> None:
    node, sealed = NODES[0], sealed_bytes(length)
    frames = node.frames(1, sealed)
    mac = MacFrame.parse(frames[which % len(frames)])
    payload = bytearray(mac.payload)
    payload[at % len(payload)] ^= flip
    mac.payload = bytes(payload[: len(payload) - cut])
    target = receiver(node)
    mixed = [*frames, mac.emit()]
    random.Random(seed).shuffle(mixed)
    messages = accepted(feed(target, mixed))
    # At most the genuine message came through; with its first fragment first it always does.
    assert all(message.sealed == sealed and message.counter == 1 for message in messages)
    again = receiver(node)
    assert [m.sealed for m in accepted(feed(again, [frames[0], mac.emit(), *frames[1:]]))] == [sealed]


class Air(RuleBasedStateMachine):
    """Two devices send in order of their counters; the air loses, delays and repeats; an attacker forges.

    The model remembers what each device sealed under each counter, and which genuine fragments of its newest
    message have arrived since the first one did.
    """

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.target = receiver(*NODES, limits=_LIMITS)
        self.now = 0.0
        self.sealed: dict[tuple[bytes, int], bytes] = {}
        self.history: list[bytes] = []
        self.newest = {node.eui: 0 for node in NODES}
        self.frames: dict[bytes, list[bytes]] = {}
        self.arrived: dict[bytes, set[int]] = {}
        self.first_at: dict[bytes, float] = {}
        self.done: set[tuple[bytes, int]] = set()

    def hear(self, frame: bytes) -> None:
        counters = dict(self.target.counters)
        events = self.target.on_frame(frame, self.now)
        assert events
        assert set(self.target.counters) <= set(Reason)
        for event in events:
            if isinstance(event, Accepted):
                assert event.sealed == self.sealed[(event.device, event.counter)]
                self.done.add((event.device, event.counter))
            elif isinstance(event, Rejected):
                assert self.target.counters[event.reason] > counters.get(event.reason, 0)

    @rule(node=st.sampled_from(NODES), length=st.integers(1, 1100), step=st.sampled_from([1, 1, 1, 2, 65536]))
    def new_message(self, node: Node, length: int, step: int) -> None:
        counter = self.newest[node.eui] + step
        self.newest[node.eui] = counter
        self.sealed[(node.eui, counter)] = sealed_bytes(length, counter)
        self.frames[node.eui] = node.frames(counter, self.sealed[(node.eui, counter)])
        self.arrived[node.eui] = set()

    @rule(node=st.sampled_from(NODES), pick=st.integers(0, 30))
    def fragment_arrives(self, node: Node, pick: int) -> None:
        frames = self.frames.get(node.eui)
        if not frames:
            return
        index = pick % len(frames)
        self.history.append(frames[index])
        self.hear(frames[index])
        arrived = self.arrived[node.eui]
        if index == 0 and not arrived:
            self.first_at[node.eui] = self.now
        if index == 0 or 0 in arrived:
            arrived.add(index)

    @rule(node=st.sampled_from(NODES))
    def rest_arrives(self, node: Node) -> None:
        frames = self.frames.get(node.eui, [])
        for index in (
            [0, *self.random.sample(range(1, len(frames)), max(0, len(frames) - 1))] if frames else []
        ):
            self.fragment_arrives(node, index)

    @rule(pick=st.integers(0, 10_000))
    def replay(self, pick: int) -> None:
        if self.history:
            self.hear(self.history[pick % len(self.history)])

    @rule(
        pick=st.integers(0, 10_000), at=st.integers(0, 200), flip=st.integers(1, 255), src=st.integers(0, 2)
    )
    def forge_from_overheard(self, pick: int, at: int, flip: int, src: int) -> None:
        """A copy with a changed byte, perhaps under another device's name."""
        if not self.history:
            return
        mac = MacFrame.parse(self.history[pick % len(self.history)])
        payload = bytearray(mac.payload)
        payload[at % len(payload)] ^= flip
        mac.payload = bytes(payload)
        mac.src = (NODES[0], NODES[1], STRANGER)[src].eui
        self.hear(mac.emit())

    @rule(payload=_payloads, src=st.integers(0, 2))
    def forge_anything(self, payload: bytes, src: int) -> None:
        self.hear(_mac(payload, (NODES[0], NODES[1], STRANGER)[src].eui))

    @rule(seconds=st.sampled_from([0.01, 0.3, 5.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.random.random() < 0.7:
            self.target.tick(self.now)

    @rule(node=st.sampled_from(NODES))
    def edge_takes(self, node: Node) -> None:
        for eui, counter in self.done:
            if eui == node.eui:
                self.target.mark_used(eui, 0, counter)

    @invariant()
    def memory_is_bounded(self) -> None:
        target = self.target
        assert target.memory_used <= target.memory_bound
        assert target.early.used <= _LIMITS.early_pool
        assert target.budget.used == sum(peer.account.used for peer in target.peers.values())
        assert target.budget.shared_used <= target.budget.shared
        assert len(target.strangers) <= 64

    @invariant()
    def genuine_messages_arrive(self) -> None:
        """The first fragment, then all others in time: whatever else was heard, the message is there."""
        for eui, arrived in self.arrived.items():
            if len(arrived) == len(self.frames[eui]) and self.now - self.first_at[eui] < _LIMITS.timeout:
                assert (eui, self.newest[eui]) in self.done


TestAir = Air.TestCase
TestAir.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
