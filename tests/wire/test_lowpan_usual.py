"""The short ways for the frames that Slimwire itself sends read what the general readers read."""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.strategies import l2_addresses
from wire import iphc
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame, fcs
from wire.lowpan import First, Unfragmented, parse

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
