"""Contexts that routers announce: literal options, damage, many PANs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.stacks import LA, LB, A, B, h, icmpv6
from wire import context
from wire.dissect import Dissection, Dissector
from wire.ieee802154 import FrameKind, MacFrame
from wire.iphc import Prefix
from wire.pcap import IEEE802154_NO_FCS, Record

HEAD = "86000000" + "40000708" + "00000000" + "00000000"
SHORT = "2202401000000064" + "fd00000000000001"
LONG = "2203800f00000064" + "20010db8" + "00" * 11 + "01"
FOUND = (0, Prefix(h("fd00000000000001").ljust(16, b"\0"), 64))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (HEAD + SHORT, [FOUND]),
        (HEAD + SHORT + LONG, [FOUND, (15, Prefix(h("20010db8" + "00" * 11 + "01"), 128))]),
        (HEAD + "0101" + "00124b000601" + SHORT, [FOUND]),  # behind a source link-layer address
        (HEAD + "0100" + "00124b000601" + SHORT, []),  # a length of 0 says nothing of what follows
        (HEAD + SHORT + LONG[:-2], [FOUND]),  # cut short
        (HEAD + "2202411000000064" + "fd00000000000001", []),  # 65 bits in 8 octets
        (HEAD + "2203811000000064" + "fd" * 16, []),  # 129 bits
        (HEAD + "2201001000000064", [(0, Prefix(bytes(16), 0))]),
        (HEAD, []),
        (HEAD[:20], []),
        ("", []),
        ("85" + HEAD[2:] + SHORT, []),  # a router solicitation
    ],
)
def test_options(message: str, expected: list[tuple[int, Prefix]]) -> None:
    assert list(context.announced(h(message))) == expected


@given(st.binary(max_size=120))
def test_any_options(options: bytes) -> None:
    for number, prefix in context.announced(h(HEAD) + options):
        assert 0 <= number <= 15
        assert len(prefix.address) == 16
        assert 0 <= prefix.length <= 128


def hear(dissector: Dissector, payload: bytes, pan: int = 1) -> Dissection:
    frame = MacFrame(FrameKind.DATA, 1, pan, B, A, payload, version=1).emit(fcs=False)
    return dissector.frame(Record(0, IEEE802154_NO_FCS, frame))


ADVERTISEMENT = h("7b333a") + icmpv6(LA, LB, h(HEAD + SHORT))
STATEFUL = h("7a773b")


def test_a_context_holds_in_its_pan_only_and_never_against_one_given_by_hand() -> None:
    dissector = Dissector({1: Prefix(bytes(16), 64)})
    hear(dissector, ADVERTISEMENT)
    found = hear(dissector, STATEFUL)
    assert found.error is None
    assert found.datagram is not None
    assert found.datagram.src == h("fd00000000000001") + LA[8:]
    assert (hear(dissector, STATEFUL, pan=2).error or "").startswith("context-missing")
    given_ = Dissector({0: Prefix(h("fd99") + bytes(14), 64)})
    hear(given_, ADVERTISEMENT)
    found = hear(given_, STATEFUL)
    assert found.datagram is not None
    assert found.datagram.src[:2] == h("fd99")


def test_a_damaged_advertisement_announces_nothing() -> None:
    dissector = Dissector()
    hear(dissector, ADVERTISEMENT[:-1] + b"\xff")
    assert (hear(dissector, STATEFUL).error or "").startswith("context-missing")


def test_contexts_of_64_pans_are_remembered() -> None:
    dissector = Dissector()
    for pan in range(100):
        hear(dissector, ADVERTISEMENT, pan)
    known = [hear(dissector, STATEFUL, pan).error is None for pan in range(100)]
    assert known == [False] * 36 + [True] * 64


def test_a_fragmented_datagram_with_an_unknown_context_is_shown() -> None:
    from wire import frag

    dissector = Dissector()
    payload = bytes(range(120))
    parts = frag.cut(h("7e77f3121234"), 48, payload, 1, 96)
    found = [hear(dissector, part) for part in parts]
    assert [(one.error or "").partition(":")[0] for one in found] == ["context-missing"] * len(parts)
    assert found[-1].datagram is not None
    assert found[-1].datagram.payload == payload
