"""ZEP against literal bytes, its inverse, and bytes of anybody."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from wire.errors import WireError
from wire.zep import ZepAck, ZepFrame

CASES = claim("zep.json", "wire")


@pytest.mark.parametrize("case", [case for case in CASES if "reason" not in case], ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    fields = {name: value for name, value in case.items() if name not in ("name", "packet")}
    packet = ZepFrame(**fields | {"frame": bytes.fromhex(case["frame"])})
    assert packet.emit().hex() == case["packet"]
    assert ZepFrame.parse(bytes.fromhex(case["packet"])) == packet


@pytest.mark.parametrize("case", [case for case in CASES if "reason" in case], ids=case_name)
def test_refusals(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        ZepFrame.parse(bytes.fromhex(case["packet"]))
    assert caught.value.reason == case["reason"]


@given(
    st.builds(
        ZepFrame,
        channel=st.integers(0, 255),
        device=st.integers(0, 0xFFFF),
        lqi=st.integers(0, 255),
        seq=st.integers(0, 0xFFFFFFFF),
        frame=st.binary(max_size=255),
        timestamp_us=st.integers(0, 2_000_000_000_000_000),
        crc_mode=st.booleans(),
    )
)
def test_parse_inverts_emit(packet: ZepFrame) -> None:
    assert ZepFrame.parse(packet.emit()) == packet


@given(st.integers(0, 0xFFFFFFFF))
def test_acks(seq: int) -> None:
    assert ZepAck.parse(ZepAck(seq).emit()) == ZepAck(seq)


def test_a_frame_too_long_is_refused() -> None:
    with pytest.raises(WireError, match="at most 255"):
        ZepFrame(26, 0, 0, 0, bytes(256)).emit()


@pytest.mark.parametrize("parse", [ZepFrame.parse, ZepAck.parse])
@given(data=st.binary(max_size=80), prefix=st.sampled_from([b"", b"EX\1", b"EX\2\1", b"EX\2\2"]))
def test_any_bytes(parse: Any, data: bytes, prefix: bytes) -> None:
    try:
        packet = parse(prefix + data)
    except WireError:
        return
    assert isinstance(packet, ZepFrame | ZepAck)


def test_a_time_that_rounds_to_none_reads_as_none() -> None:
    # 1024/2^32 s into 1900: found by fuzzing, it read as a negative time that could not be sent again.
    packet = bytearray(ZepFrame(26, 1, 255, 7, b"frame").emit())
    packet[9:17] = (0x400).to_bytes(8, "big")
    read = ZepFrame.parse(bytes(packet))
    assert read.timestamp_us == 0
    assert ZepFrame.parse(read.emit()) == read
