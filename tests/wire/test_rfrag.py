"""Recoverable fragments and their acknowledgements."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import WireError
from wire.rfrag import Rfrag, RfragAck


def test_literal_bytes() -> None:
    assert Rfrag(7, 1, 96, b"\xaa" * 4, ack_request=True).emit().hex() == "e80784040060aaaaaaaa"
    assert Rfrag(7, 31, 96, b"", congestion=True).emit().hex() == "e9077c000060"
    assert RfragAck(7, 1 << 31).emit().hex() == "ea0780000000"  # sequence 0 alone


def test_an_offset_of_zero_aborts() -> None:
    assert Rfrag.parse(bytes.fromhex("e80700000000")).is_abort
    assert not Rfrag.parse(bytes.fromhex("e80700010100aa")).is_abort


@pytest.mark.parametrize(
    ("parse", "data", "reason"),
    [
        (Rfrag.parse, "e807000000", "truncated"),
        (Rfrag.parse, "ea0700000000", "dispatch"),
        (Rfrag.parse, "e807000500ffaa", "frag-length"),
        (Rfrag.parse, "e80700020001aaaa", "frag-length"),  # sequence 0 is longer than its datagram
        (RfragAck.parse, "ea07000000", "truncated"),
        (RfragAck.parse, "e80700000000", "dispatch"),
        (RfragAck.parse, "ea070000000000", "frag-length"),
    ],
)
def test_refusals(parse: Any, data: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        parse(bytes.fromhex(data))
    assert caught.value.reason == reason


@given(
    st.builds(
        Rfrag,
        tag=st.integers(0, 255),
        sequence=st.integers(0, 31),
        offset=st.integers(200, 0xFFFF),
        payload=st.binary(max_size=110),
        ack_request=st.booleans(),
        congestion=st.booleans(),
    )
)
def test_parse_inverts_emit(fragment: Rfrag) -> None:
    assert Rfrag.parse(fragment.emit()) == fragment


@given(st.builds(RfragAck, st.integers(0, 255), st.integers(0, 0xFFFFFFFF), st.booleans()))
def test_parse_inverts_emit_of_acks(ack: RfragAck) -> None:
    assert RfragAck.parse(ack.emit()) == ack


@pytest.mark.parametrize("parse", [Rfrag.parse, RfragAck.parse])
@given(data=st.binary(max_size=127), first=st.sampled_from([b"", b"\xe8", b"\xeb"]))
def test_any_bytes(parse: Any, data: bytes, first: bytes) -> None:
    try:
        value = parse(first + data)
    except WireError:
        return
    assert value.emit() == first + data
