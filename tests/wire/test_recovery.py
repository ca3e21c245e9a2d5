"""Recoverable datagrams (RFC 8931): retries, reordering, contradictions, aborts, time and memory."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.vectors.registry import case_name, claim
from tests.wire import captures
from wire.coverage import Added
from wire.dissect import Dissection, Dissector
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.pcap import IEEE802154_NO_FCS, Record
from wire.reassembly import TIMEOUT_NS
from wire.recovery import MAX_COMPRESSED, RecoverableDatagram, RecoveryReassembler
from wire.rfrag import Rfrag, RfragAck

OCTETS = bytes(range(250))
A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")
KEY = (A, B, 7)


FRAGMENTS = captures.rfrags(OCTETS, tag=7, step=90)
FIRST, MIDDLE, LAST = FRAGMENTS


def refusal(datagram: RecoverableDatagram, fragment: Rfrag) -> str:
    """The reason; what was there before is still there."""
    before = datagram.size, datagram.bitmap, datagram.holes(), datagram.covered
    with pytest.raises(WireError) as caught:
        datagram.add(fragment)
    assert (datagram.size, datagram.bitmap, datagram.holes(), datagram.covered) == before
    return caught.value.reason


def test_bitmap_and_holes_follow_what_arrives() -> None:
    datagram = RecoverableDatagram()
    assert (datagram.bitmap, datagram.size, datagram.complete) == (0, None, False)
    assert datagram.add(LAST) is Added.NEW
    assert datagram.holes() == [(0, 180), (250, MAX_COMPRESSED)]  # the size isn't known yet
    assert datagram.add(FIRST) is Added.NEW
    assert (datagram.size, datagram.holes(), datagram.covered) == (250, [(90, 180)], 160)
    assert datagram.bitmap == datagram.ack_bitmap == 0xA0000000
    with pytest.raises(ValueError, match="160 octets have arrived, of a datagram of 250"):
        datagram.octets()
    assert datagram.add(MIDDLE) is Added.NEW
    assert (datagram.bitmap, datagram.ack_bitmap) == (0xE0000000, 0xFFFFFFFF)
    assert datagram.octets() == OCTETS
    assert datagram.add(MIDDLE) is Added.DUPLICATE


@given(st.permutations(FRAGMENTS * 2))
def test_any_order_with_retries(fragments: list[Rfrag]) -> None:
    datagram = RecoverableDatagram()
    seen = set()
    for fragment in fragments:
        expected = Added.DUPLICATE if fragment.sequence in seen else Added.NEW
        assert datagram.add(fragment) is expected
        seen.add(fragment.sequence)
        assert datagram.complete is (len(seen) == 3)
    assert datagram.octets() == OCTETS


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [
        (Rfrag(7, 1, 90, OCTETS[90:179] + b"\0"), "frag-overlap"),  # other octets under a sequence
        (Rfrag(7, 1, 98, OCTETS[98:180]), "frag-overlap"),  # another place
        (Rfrag(7, 0, 251, OCTETS[:90]), "frag-overlap"),  # another size
        (Rfrag(7, 3, 80, OCTETS[80:100]), "frag-overlap"),  # across two others
        (Rfrag(7, 3, 90, OCTETS[91:181]), "frag-overlap"),  # other octets, under another sequence
        (Rfrag(7, 2, 180, OCTETS[:71]), "coverage-range"),  # beyond the end
        (Rfrag(7, 2, 180, b""), "coverage-range"),
        (Rfrag(7, 2, 0, b""), "frag-offset"),  # an abort
        (Rfrag(7, 0, 0, OCTETS[:90]), "frag-offset"),
    ],
)
def test_contradictions_change_nothing(fragment: Rfrag, reason: str) -> None:
    datagram = RecoverableDatagram()
    datagram.add(FIRST)
    datagram.add(MIDDLE)
    assert refusal(datagram, fragment) == reason
    datagram.add(LAST)
    assert datagram.octets() == OCTETS


def test_sizes_that_no_32_fragments_carry_or_that_are_too_small_are_refused() -> None:
    assert refusal(RecoverableDatagram(), Rfrag(7, 0, MAX_COMPRESSED + 1, b"x")) == "frag-size"
    datagram = RecoverableDatagram()
    datagram.add(LAST)
    assert refusal(datagram, Rfrag(7, 0, 249, OCTETS[:90])) == "frag-overlap"
    assert datagram.size is None


def test_a_sender_that_renumbers_a_piece_sets_both_bits() -> None:
    datagram = RecoverableDatagram()
    datagram.add(MIDDLE)
    assert datagram.add(Rfrag(7, 5, 90, OCTETS[90:180])) is Added.DUPLICATE
    assert datagram.bitmap == 0x44000000


def test_32_fragments_of_1023_octets_are_the_most() -> None:
    datagram = RecoverableDatagram()
    octets = bytes(MAX_COMPRESSED)
    for fragment in captures.rfrags(octets, tag=1, step=1023):
        datagram.add(fragment)
    assert datagram.octets() == octets


def add(target: RecoveryReassembler, *fragments: Rfrag, now: int = 0) -> list[bytes]:
    return [whole for fragment in fragments if (whole := target.add(now, KEY, fragment)) is not None]


def test_aborts_of_either_end_drop_what_was_collected() -> None:
    target = RecoveryReassembler()
    assert add(target, FIRST, MIDDLE, Rfrag(7, 3, 0, b""), LAST) == []
    assert add(target, FIRST, MIDDLE) == [OCTETS]
    add(target, FIRST)
    target.abort(KEY)
    target.abort(KEY)
    assert len(target) == 0


def test_a_reused_tag_starts_anew_and_late_retries_do_not_spoil_it() -> None:
    target = RecoveryReassembler()
    other = captures.rfrags(OCTETS[::-1], tag=7, step=90)
    assert add(target, *FRAGMENTS) == [OCTETS]
    assert add(target, LAST) == []  # its acknowledgement got lost
    assert add(target, *other) == [OCTETS[::-1]]
    add(target, FIRST)
    with pytest.raises(WireError) as caught:
        target.add(0, KEY, other[0])
    assert caught.value.reason == "frag-overlap"
    assert add(target, *other[1:]) == [OCTETS[::-1]]


def test_what_is_not_whole_after_a_minute_is_dropped() -> None:
    target = RecoveryReassembler()
    add(target, FIRST)
    add(target, MIDDLE, now=TIMEOUT_NS)
    assert add(target, LAST, now=TIMEOUT_NS + 1) == []
    assert add(target, FIRST, MIDDLE, now=TIMEOUT_NS + 1) == [OCTETS]


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    target = RecoveryReassembler(max_datagrams=4)
    for tag in range(100):
        target.add(tag, (A, B, tag), Rfrag(tag, 0, 250, OCTETS[:90]))
    assert len(target) == 4
    for fragment in captures.rfrags(OCTETS, tag=99, step=90)[1:]:
        whole = target.add(100, (A, B, 99), fragment)
    assert whole == OCTETS


def dissect(dissector: Dissector, payload: bytes, src: bytes | None = A, dst: bytes | None = B) -> Dissection:
    frame = MacFrame(FrameKind.DATA, 1, 0x23F0, dst, src, payload, version=1).emit(fcs=False)
    return dissector.frame(Record(0, IEEE802154_NO_FCS, frame))


def test_the_compressed_datagram_is_decompressed_once_whole() -> None:
    payload = bytes(range(200))
    compressed = captures.compressed_udp(A, B, payload)
    assert len(compressed) == 206
    dissector = Dissector()
    # The cut lies within the compressed header: RFC 8931 knows nothing of it.
    parts = captures.rfrags(compressed, tag=1, step=90)
    found = [dissect(dissector, part.emit()) for part in parts]
    assert [one.layers for one in found[:2]] == [["802.15.4", "6lowpan.rfrag"]] * 2
    assert found[2].layers == ["802.15.4", "6lowpan.rfrag", "6lowpan.iphc", "6lowpan.nhc-udp", "ipv6", "udp"]
    assert found[2].datagram is not None
    assert (found[2].datagram.size, found[2].datagram.payload) == (248, payload)


def test_a_header_may_be_cut_and_a_datagram_longer_than_2047_octets() -> None:
    payload = bytes(3000)
    dissector = Dissector()
    parts = captures.rfrags(captures.compressed_udp(A, B, payload), tag=1, step=98)
    parts[:1] = [
        Rfrag(1, 0, parts[0].offset, parts[0].payload[:3]),
        Rfrag(1, 31, 3, parts[0].payload[3:]),
    ]
    found = [dissect(dissector, part.emit()) for part in parts]
    assert [one.error for one in found] == [None] * len(parts)
    assert found[-1].datagram is not None
    assert (found[-1].datagram.size, found[-1].datagram.payload) == (3048, payload)


def test_control_frames_in_a_capture() -> None:
    first, last = captures.rfrags(captures.compressed_udp(A, B, bytes(100)), tag=1, step=90)
    for acknowledgement, kept in ((0, False), (1 << 31, True), (0xFFFFFFFF, True)):
        dissector = Dissector()
        dissect(dissector, first.emit())
        dissect(dissector, RfragAck(1, acknowledgement).emit(), src=B, dst=A)
        assert (dissect(dissector, last.emit()).datagram is not None) is kept
    # Another sender's tag 1 is another datagram.
    dissector = Dissector()
    dissect(dissector, first.emit())
    dissect(dissector, RfragAck(1, 0).emit(), src=A, dst=B)
    assert dissect(dissector, last.emit()).datagram is not None


def test_recoverable_fragments_need_addresses() -> None:
    assert (dissect(Dissector(), FIRST.emit(), src=None).error or "").startswith("address-missing")
    assert dissect(Dissector(), RfragAck(1, 0).emit(), src=None).error is None


class Air(RuleBasedStateMachine):
    """Two senders, few tags, a window of fragments each; the air loses, doubles and reorders them.

    The model keeps, per key, the pieces that arrived since it last began, and forgets them when they are
    whole, replaced, aborted or timed out.
    """

    @initialize()
    def start(self) -> None:
        self.target = RecoveryReassembler(max_datagrams=8, timeout_ns=1000)
        self.now = 0
        self.sent: dict[tuple[bytes, bytes, int], list[Rfrag]] = {}
        self.arrived: dict[tuple[bytes, bytes, int], set[int]] = {}
        self.began: dict[tuple[bytes, bytes, int], int] = {}
        self.made = 0

    @rule(
        src=st.sampled_from([A, B]), tag=st.integers(0, 1), size=st.integers(1, 300), step=st.integers(10, 96)
    )
    def new_datagram(self, src: bytes, tag: int, size: int, step: int) -> None:
        # Every octet differs from datagram to datagram: no fragment of one can be taken for another's.
        self.made += 1
        octets = bytes(self.made * 37 + 11 * i & 0xFF for i in range(size))
        key = (src, b"\0\1", tag)
        self.target.abort(key)
        self.sent[key] = captures.rfrags(octets, tag, max(step, size // 32 + 1))
        self.arrived[key] = set()

    @rule(src=st.sampled_from([A, B]), tag=st.integers(0, 1), pick=st.integers(0, 31))
    def fragment_arrives(self, src: bytes, tag: int, pick: int) -> None:
        key = (src, b"\0\1", tag)
        fragments = self.sent.get(key)
        if not fragments:
            return
        sequence = pick % len(fragments)
        arrived = self.arrived[key]
        if arrived and self.now - self.began[key] > 1000:
            arrived.clear()
        if not arrived:
            self.began[key] = self.now
        whole = self.target.add(self.now, key, Rfrag.parse(fragments[sequence].emit()))
        arrived.add(sequence)
        if len(arrived) == len(fragments):
            assert whole == b"".join(fragment.payload for fragment in fragments)
            arrived.clear()
        else:
            assert whole is None

    @rule(src=st.sampled_from([A, B]), tag=st.integers(0, 1))
    def rest_arrives(self, src: bytes, tag: int) -> None:
        for sequence in reversed(range(len(self.sent.get((src, b"\0\1", tag), ())))):
            self.fragment_arrives(src, tag, sequence)

    @rule(src=st.sampled_from([A, B]), tag=st.integers(0, 1))
    def abort(self, src: bytes, tag: int) -> None:
        key = (src, b"\0\1", tag)
        assert self.target.add(self.now, key, Rfrag(tag, 5, 0, b"")) is None
        self.arrived.get(key, set()).clear()

    @rule(src=st.sampled_from([A, B]), tag=st.integers(0, 1), data=st.binary(max_size=40))
    def another_sender_says_anything(self, src: bytes, tag: int, data: bytes) -> None:
        """Under an address of its own: it moves nothing of the others."""
        with contextlib.suppress(WireError):
            self.target.add(self.now, (b"\0\2", b"\0\1", tag), Rfrag.parse(b"\xe8" + data))

    @rule(step=st.sampled_from([1, 100, 999, 1001]))
    def time_passes(self, step: int) -> None:
        self.now += step

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(getattr(self, "target", ())) <= 6


TestAir = Air.TestCase
TestAir.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("case", claim("rfrag.json", "wire"), ids=case_name)
def test_golden_vectors(case: dict[str, Any]) -> None:
    datagram = RecoverableDatagram()
    for heard in case["heard"]:
        fragment = Rfrag.parse(bytes.fromhex(heard["fragment"]))
        assert fragment.emit().hex() == heard["fragment"]
        datagram.add(fragment)
        assert RfragAck(case["tag"], datagram.ack_bitmap).emit().hex() == heard["ack"]
    assert datagram.octets().hex() == case["compressed"]
