"""The message layout: literal bytes, cuts, boundaries, and bytes that are no message."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import message as m
from wire.errors import WireError
from wire.ieee802154 import room
from wire.message import Cut, FirstSlice, FrameRooms, Kind

DEVICE = bytes.fromhex("0200000000000001")
SRC = bytes.fromhex("fe800000000000000000000000000001")
DST = bytes.fromhex("fe8000000000000000000000000000fe")
EUI64_ROOMS = FrameRooms(98, 88, 96)


def reason_of(data: bytes, payload_length: int) -> str | None:
    try:
        FirstSlice.parse(data, payload_length)
    except WireError as error:
        return error.reason
    return None


def manifest(n: int, step: int, first: int, attempt: int = 0) -> bytes:
    """A first slice of `first` bytes with n tags 11111111, 22222222, ..."""
    head = (
        b"\x42"
        + bytes(4)
        + bytes((attempt << 5 | n, step))
        + b"".join(bytes([i]) * 4 for i in range(1, n + 1))
    )
    return head + bytes(first - len(head))


def test_an_unfragmented_message_by_hand() -> None:
    data = bytes.fromhex("4c 01020304 a1a2a3a4a5a6a7a8 5ea1ed")
    first = FirstSlice.parse(data, len(data))
    assert (first.kind, first.epoch2, first.counter, first.fragmented) == (Kind.DATA, 3, 0x01020304, False)
    assert (first.n, first.step, first.attempt, first.tags, first.slices) == (0, 0, 0, (), ())
    assert (first.header_length, first.sealed_start) == (5, 13)
    assert first.mac.hex() == "a1a2a3a4a5a6a7a8"
    assert first.sealed.hex() == "5ea1ed"
    assert first.cut_problem is None
    assert m.emit_header(m.octet0(Kind.DATA, 7), 0x01020304, []) == data[:5]


def test_a_manifest_by_hand() -> None:
    header = bytes.fromhex("56 0000ffff a2 0c 11111111 22222222")
    data = header + bytes.fromhex("b1b2b3b4b5b6b7b8") + bytes(range(88 - 23))
    first = FirstSlice.parse(data, 88 + 96 + 5)
    assert (first.kind, first.epoch2, first.counter, first.fragmented) == (Kind.REPLY, 1, 0xFFFF, True)
    assert (first.attempt, first.n, first.step) == (5, 2, 12)
    assert [tag.hex() for tag in first.tags] == ["11111111", "22222222"]
    assert [first.tag(i).hex() for i in range(3)] == ["00000000", "11111111", "22222222"]
    assert first.mac.hex() == "b1b2b3b4b5b6b7b8"
    assert first.sealed == bytes(range(65))
    assert first.cut_problem is None
    assert first.slices == ((88, 96), (184, 5))
    tags = [b"\x11" * 4, b"\x22" * 4]
    assert m.emit_header(m.octet0(Kind.REPLY, 1), 0xFFFF, tags, step=12, attempt=5) == header


def test_what_a_mac_and_a_tag_cover_by_hand() -> None:
    data = manifest(1, 12, 88)
    first = FirstSlice.parse(data, 100)
    assert m.mac_input(SRC, DST, 0xF0B0, 0xF0B1, first) == (
        b"\x01" + SRC + DST + bytes.fromhex("f0b0 f0b1 0064") + data[:11] + data[19:]
    )
    assert m.tag_input(DEVICE, 0x01020304, 3, 0x0158, previous_tag=b"\xaa\xbb\xcc\xdd", data=b"slice") == (
        b"\x02" + DEVICE + bytes.fromhex("01020304 03 0158 0005 aabbccdd") + b"slice"
    )


def test_octet_0_and_what_follows_from_it() -> None:
    assert m.octet0(Kind.DATA, 0) == 0x40
    assert m.octet0(Kind.REPLY, 5) == 0x54
    assert m.octet0(Kind.UPDATE, 3, fragmented=True) == 0x7E
    assert m.without_f(0x7E) == 0x7C
    assert m.associated_data(0x7E, 0x0A0B0C0D).hex() == "7c0a0b0c0d"
    assert m.datagram_tag(0x12345678) == 0x5678


@pytest.mark.parametrize(
    ("data", "payload_length", "reason"),
    [
        (b"", 0, "truncated"),
        (b"\x40" + bytes(11), 12, "truncated"),
        (b"\x40" + bytes(12), 13, None),
        (b"\x00" + bytes(20), 21, "bad-version"),
        (b"\x80" + bytes(20), 21, "bad-version"),
        (b"\xc0" + bytes(20), 21, "bad-version"),
        (b"\x41" + bytes(20), 21, "reserved-bit"),
        (b"\x40" + bytes(23), 25, "no-manifest"),
        (b"\x40" + bytes(23), 23, "truncated"),
        (manifest(31, 1, 138), 400, "truncated"),
        (manifest(31, 1, 144), 144 + 31 * 8, None),
        (manifest(1, 12, 88), 87, "truncated"),
    ],
)
def test_what_is_no_first_slice(data: bytes, payload_length: int, reason: str | None) -> None:
    assert reason_of(data, payload_length) == reason


@pytest.mark.parametrize(
    ("data", "payload_length", "possible"),
    [
        (manifest(2, 12, 88), 88 + 96 + 1, True),
        (manifest(2, 12, 88), 88 + 192, True),
        (manifest(2, 12, 88), 88 + 96, False),  # two slices announced, one needed
        (manifest(2, 12, 88), 88 + 193, False),  # the third has no tag
        (manifest(1, 12, 88), 88, False),
        (manifest(0, 12, 88), 88 + 96, False),
        (manifest(2, 0, 88), 88 + 96, False),
        (manifest(1, 12, 84), 84 + 96, False),  # no fragment boundary lies there
        (manifest(12, 12, 88), 1232, True),
        (manifest(12, 12, 88), 1233, False),
    ],
)
def test_a_cut_follows_from_lengths_n_and_step_or_is_a_problem(
    data: bytes, payload_length: int, possible: bool
) -> None:
    first = FirstSlice.parse(data, payload_length)
    assert (first.cut_problem is None) is possible
    if possible:
        assert [offset for offset, _ in first.slices] == list(
            range(len(data), payload_length, 8 * first.step)
        )
        assert sum(length for _, length in first.slices) == payload_length - len(data)
    else:
        with pytest.raises(WireError, match="bad-manifest"):
            _ = first.slices
        assert first.index_of(len(data), 96) is None


def test_only_the_boundaries_of_the_manifest_have_an_index() -> None:
    first = FirstSlice.parse(manifest(3, 12, 88), 88 + 2 * 96 + 10)
    expected = {(88, 96): 1, (184, 96): 2, (280, 10): 3}
    for offset in range(0, 400):
        for length in (0, 1, 8, 9, 10, 11, 95, 96, 97, 192):
            assert first.index_of(offset, length) == expected.get((offset, length))


@pytest.mark.parametrize(
    ("address", "rooms"), [(bytes(8), FrameRooms(98, 88, 96)), (bytes(2), FrameRooms(110, 104, 104))]
)
def test_rooms_of_a_frame(address: bytes, rooms: FrameRooms) -> None:
    assert FrameRooms.of(room(address, address)) == rooms


@pytest.mark.parametrize(
    ("address_size", "frames", "coded"),
    [(8, 1, 71), (8, 2, 151), (8, 3, 243), (8, 4, 335), (2, 1, 83), (2, 2, 175), (2, 3, 275), (2, 4, 375)],
)
def test_coded_bytes_that_fit_so_many_frames(address_size: int, frames: int, coded: int) -> None:
    """The byte targets of the protocol: an inner header of 6 and a CCM tag of 8 come with the symbols."""
    rooms = FrameRooms.of(room(bytes(address_size), bytes(address_size)))
    assert Cut.plan(coded + 14, *rooms).n == frames - 1
    assert Cut.plan(coded + 15, *rooms).n == frames


@given(st.integers(0, 1300), st.integers(24, 160), st.integers(8, 200), st.integers(0, 20))
def test_a_cut_fills_its_frames_and_is_one_that_receivers_accept(
    sealed: int, first_room: int, slice_room: int, more: int
) -> None:
    first, stride = first_room // 8 * 8, slice_room // 8 * 8
    fits = [
        n
        for n in range(1, 32)
        if 15 + 4 * n <= first and 15 + 4 * n + sealed <= min(m.MAX_PAYLOAD, first + n * stride)
    ]
    whole = 13 + sealed <= min(first_room + more, m.MAX_PAYLOAD)
    if not whole and not fits:
        with pytest.raises(WireError, match="too-large"):
            Cut.plan(sealed, first_room + more, first_room, slice_room)
        return
    cut = Cut.plan(sealed, first_room + more, first_room, slice_room)
    assert cut.n == (0 if whole else fits[0])
    assert cut.payload_length == cut.header_length + 8 + sealed <= m.MAX_PAYLOAD
    if cut.n == 0:
        assert cut.payload_length == cut.first <= first_room + more
        return
    assert (cut.first, 8 * cut.step) == (first, stride)
    header = m.emit_header(0x40, 1, [bytes(4)] * cut.n, cut.step)
    parsed = FirstSlice.parse(header + bytes(cut.first - len(header)), cut.payload_length)
    assert parsed.cut_problem is None
    assert len(parsed.slices) == cut.n


def test_a_message_that_fits_no_datagram_is_refused_in_words() -> None:
    assert Cut.plan(1232 - 63, *EUI64_ROOMS).payload_length == 1232
    with pytest.raises(WireError, match=r"too-large: 1170 sealed bytes .* at most 1232"):
        Cut.plan(1232 - 62, *EUI64_ROOMS)
    with pytest.raises(WireError, match="too-large"):
        Cut.plan(500, 24, 24, 8)
    with pytest.raises(ValueError, match="room"):
        Cut.plan(500, 80, 88, 96)


@given(st.binary(max_size=200), st.integers(0, 65535))
def test_any_bytes_are_a_first_slice_or_a_named_refusal(data: bytes, payload_length: int) -> None:
    reason = reason_of(data, payload_length)
    assert reason in {None, "truncated", "bad-version", "reserved-bit", "no-manifest"}
    if reason is None:
        first = FirstSlice.parse(data, payload_length)
        assert len(first.tags) == first.n
        assert first.data[: first.header_length] + first.mac + first.sealed == data
        assert first.cut_problem is None or first.index_of(len(data), 8) is None


@given(
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.lists(st.binary(min_size=4, max_size=4), max_size=31),
    st.integers(1, 255),
    st.integers(0, 7),
)
def test_parse_inverts_emit(
    kind: int, epoch: int, counter: int, tags: list[bytes], step: int, attempt: int
) -> None:
    header = m.emit_header(m.octet0(kind, epoch), counter, tags, step, attempt)
    first = FirstSlice.parse(header + b"12345678" + b"sealed", len(header) + 14 if not tags else 2000)
    assert (first.kind, first.epoch2, first.counter) == (kind, epoch % 4, counter)
    assert first.tags == tuple(tags)
    assert (first.mac, first.sealed) == (b"12345678", b"sealed")
    if tags:
        assert (first.n, first.step, first.attempt) == (len(tags), step, attempt)


@pytest.mark.parametrize(("tags", "step", "attempt"), [(32, 1, 0), (1, 0, 0), (1, 256, 0), (1, 1, 8)])
def test_no_header_has_impossible_fields(tags: int, step: int, attempt: int) -> None:
    with pytest.raises(ValueError, match="no manifest"):
        m.emit_header(0x40, 1, [bytes(4)] * tags, step, attempt)
    with pytest.raises(ValueError, match="kind"):
        m.octet0(4, 0)
    with pytest.raises(struct.error):
        m.emit_header(0x40, 2**32, [])
