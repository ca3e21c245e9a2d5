"""802.15.4 frames against literal bytes, their inverse, and bytes of anybody."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from tests.wire.strategies import l2_addresses
from wire import ieee802154
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame

CASES = claim("mac.json", "wire")
BYTES = ("dst", "src", "payload", "security", "ies")


def of_case(case: dict[str, Any]) -> MacFrame:
    fields = {name: value for name, value in case.items() if name not in ("name", "frame")}
    fields |= {name: bytes.fromhex(fields[name]) for name in BYTES if name in fields}
    fields = {"seq": None, "pan": None, "dst": None, "src": None} | fields
    return MacFrame(**fields | {"kind": FrameKind(fields["kind"])})


@pytest.mark.parametrize("case", [case for case in CASES if "reason" not in case], ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    frame, data = of_case(case), bytes.fromhex(case["frame"])
    assert frame.emit() == data
    parsed = MacFrame.parse(data)
    for name in MacFrame.__slots__:
        if name != "pan_compression":
            assert getattr(parsed, name) == getattr(frame, name), name
    assert parsed.emit() == data


@pytest.mark.parametrize("case", [case for case in CASES if "reason" in case], ids=case_name)
def test_refusals(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        MacFrame.parse(bytes.fromhex(case["frame"]))
    assert caught.value.reason == case["reason"]


def test_fcs_check_value() -> None:
    # The check value of CRC-16/KERMIT, which 802.15.4's is.
    assert ieee802154.fcs(b"123456789") == 0x2189


def test_room() -> None:
    eui, short = bytes(8), bytes(2)
    assert ieee802154.room(eui, eui) == 104
    assert ieee802154.room(short, short) == 116
    full = MacFrame(FrameKind.DATA, 0, 1, eui, eui, bytes(104)).emit()
    assert len(full) == 127
    with pytest.raises(WireError, match="128 bytes"):
        MacFrame(FrameKind.DATA, 0, 1, eui, eui, bytes(105)).emit()


def test_mic_only_payload_is_readable() -> None:
    frame = MacFrame(
        FrameKind.DATA,
        0,
        1,
        bytes(8),
        bytes(8),
        b"clear" + bytes(8),
        secured=True,
        security=b"\x0a" + bytes(5),
        version=1,
    )
    assert MacFrame.parse(frame.emit()).clear_payload == b"clear"
    frame.payload = b"short"
    assert frame.clear_payload is None
    frame.security = b"\x0e" + bytes(5)
    frame.payload = bytes(30)
    assert frame.clear_payload is None


@st.composite
def frames(draw: st.DrawFn) -> MacFrame:
    version = draw(st.integers(0, 2))
    dst, src = draw(st.none() | l2_addresses), draw(st.none() | l2_addresses)
    pans = st.integers(0, 0xFFFF)
    pan = src_pan = None
    both_eui64 = len(dst or b"") == len(src or b"") == 8
    if dst or src:
        pan = (
            draw(pans) if version < 2 else draw(st.none() | pans if not (dst and src) or both_eui64 else pans)
        )
    if dst and src and pan is not None and not (version == 2 and both_eui64):
        src_pan = draw(st.none() | pans)
    secured = version > 0 and draw(st.booleans())
    return MacFrame(
        draw(st.sampled_from(FrameKind)),
        draw(st.integers(0, 255)) if version < 2 else draw(st.none() | st.integers(0, 255)),
        pan,
        dst,
        src,
        draw(st.binary(max_size=90)),
        draw(st.booleans()),
        version,
        draw(st.booleans()),
        src_pan,
        b"\x0e" + draw(st.binary(min_size=5, max_size=5)) if secured else b"",
        bytes.fromhex("020f1122803f") if version == 2 and draw(st.booleans()) else b"",
        secured,
    )


@given(frames())
def test_parse_inverts_emit(frame: MacFrame) -> None:
    data = frame.emit()
    parsed = MacFrame.parse(data)
    parsed.pan_compression = None
    assert parsed == frame
    assert MacFrame.parse(frame.emit(fcs=False), fcs=False).payload == frame.payload


@given(st.binary(max_size=140), st.booleans())
def test_any_bytes(data: bytes, fix_fcs: bool) -> None:
    if fix_fcs:
        data += ieee802154.fcs(data).to_bytes(2, "little")
    try:
        frame = MacFrame.parse(data)
    except WireError:
        return
    assert frame.clear_payload is None or frame.payload.startswith(frame.clear_payload)


@given(st.binary(min_size=21, max_size=100), st.sampled_from([0x01, 0x41, 0x61]), st.integers(0, 255))
def test_what_parses_is_emitted_alike(data: bytes, low: int, high: int) -> None:
    data = bytes((low, high & 0xFC)) + data
    try:
        frame = MacFrame.parse(data, fcs=False)
    except WireError:
        return
    assert frame.emit(fcs=False) == data


@given(frames(), st.data())
def test_any_flipped_bit_is_noticed(frame: MacFrame, data: st.DataObject) -> None:
    raw = bytearray(frame.emit())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError) as caught:
        MacFrame.parse(bytes(raw))
    assert caught.value.reason == "bad-fcs"
