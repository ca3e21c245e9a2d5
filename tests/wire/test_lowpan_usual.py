"""The short ways for the frames that Slimwire itself sends read and write what the general ones do."""

import struct
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.strategies import l2_addresses
from wire import eui64, iphc
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame, fcs
from wire.ipv6 import udp_checksum
from wire.lowpan import First, Unfragmented, parse, udp_frames

SRC, DST = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")


def read(data, src, dst):
    """What `parse` makes of it, or why nothing."""
    try:
        return parse(data, src, dst)
    except WireError as error:
        return error.reason


def by_iphc(data, src, dst, size):
    """(source, destination, ports, checksum, payload) by the general reader, or why there are none."""
    try:
        done = iphc.decompress(data, src, dst, None, size)
    except WireError as error:
        return error.reason
    udp = done.udp
    return done.header.src, done.header.dst, udp.sport, udp.dport, udp.checksum, done.payload


@given(l2_addresses, l2_addresses, st.binary(max_size=98))
@example(SRC, DST, b"")
@example(SRC, DST, b"\x00\x79\x79")
def test_a_whole_datagram_with_the_usual_header(src, dst, rest):
    data = b"\x7e\x33\xf3" + rest
    expected = by_iphc(data, src, dst, None)
    found = read(data, src, dst)
    if isinstance(expected, str):
        assert found == expected
        return
    assert isinstance(found, Unfragmented)
    assert (found.src16, found.dst16, found.sport, found.dport, found.checksum, found.payload) == expected


@given(l2_addresses, l2_addresses, st.integers(48, 1280), st.integers(0, 0xFFFF), st.binary(max_size=98))
@example(SRC, DST, 48, 1, b"\x00\x79\x79" + bytes(8))
@example(SRC, DST, 56, 1, b"\x00\x79\x79" + bytes(8))
def test_a_first_fragment_with_the_usual_header(src, dst, size, tag, rest):
    data = b"\x7e\x33\xf3" + rest
    expected = by_iphc(data, src, dst, size)
    found = read((0xC000 | size).to_bytes(2, "big") + tag.to_bytes(2, "big") + data, src, dst)
    if isinstance(expected, str):
        assert found == expected
        return
    slice_ = expected[-1]
    if len(slice_) % 8 and len(slice_) != size - 48:
        assert found == "frag-length"
        return
    assert isinstance(found, First)
    assert (found.datagram_size, found.tag, found.payload_length) == (size, tag, size - 48)
    assert (found.src16, found.dst16, found.sport, found.dport, found.checksum) == expected[:-1]
    assert found.udp_payload_slice == slice_


@given(
    st.builds(
        MacFrame,
        kind=st.sampled_from(FrameKind),
        seq=st.integers(0, 255),
        pan=st.integers(0, 0xFFFF),
        dst=l2_addresses,
        src=l2_addresses,
        payload=st.binary(max_size=104),
        ack_request=st.booleans(),
        version=st.integers(0, 2),
        pending=st.booleans(),
    )
)
def test_a_frame_is_read_as_it_was_written_whatever_way_it_takes(frame):
    try:
        data = frame.emit()
    except WireError:
        return
    assert replace(MacFrame.parse(data), pan_compression=None) == frame
    assert MacFrame.parse(data).emit() == data


@given(st.integers(0, 255), st.integers(0, 0xFFFF), st.binary(max_size=104), st.booleans(), st.integers(0, 1))
def test_a_usual_frame_is_written_field_by_field(seq, pan, payload, ack_request, version):
    frame = MacFrame(FrameKind.DATA, seq, pan, DST, SRC, payload, ack_request, version)
    control = 0xCC41 | ack_request << 5 | version << 12  # data, one PAN, two EUI-64s
    body = struct.pack("<HBH", control, seq, pan) + DST[::-1] + SRC[::-1] + payload
    assert frame.emit() == body + fcs(body).to_bytes(2, "little")
    assert frame.emit(fcs=False) == body


_PORTS = st.one_of(st.integers(0, 0xFFFF), st.integers(0xF0A8, 0xF0C8))


@given(l2_addresses, l2_addresses, _PORTS, _PORTS, st.binary(max_size=80))
def test_headers_are_compressed_as_the_general_writer_does(src, dst, sport, dport, payload):
    ends = eui64.link_local(src), eui64.link_local(dst)
    checksum = udp_checksum(*ends, sport, dport, payload)
    expected = iphc.compress_udp(*ends, sport, dport, checksum, src, dst) + payload
    (frame,) = udp_frames(src, dst, sport, dport, payload, 1, 0, 0xABCD)
    assert frame.payload == expected


@given(st.binary(min_size=2, max_size=125))
def test_the_fcs_is_refused_whenever_it_is_not_that_of_the_frame(body):
    good = fcs(body).to_bytes(2, "little")
    for other in (b"\0\0", bytes((good[0] ^ 1, good[1])), bytes((good[0], good[1] ^ 0x80))):
        try:
            MacFrame.parse(body + other)
            refused = ""
        except WireError as error:
            refused = error.reason
        assert (refused == "bad-fcs") == (other != good)
