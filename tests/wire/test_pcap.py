"""Capture files: the writer's bytes, every byte order and resolution, damage of any kind."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import pcap
from wire.errors import WireError
from wire.pcap import Reader, Record, Writer

HEADER = "d4c3b2a1 0200 0400 00000000 00000000 00000400 c3000000"
RECORD = "00f15365 40e20100 03000000 03000000 020007"  # 1700000000.123456


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = 12 + len(body)
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def pcapng(order: str, *blocks: tuple[int, bytes]) -> bytes:
    section = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    return section + b"".join(block(kind, body, order) for kind, body in blocks)


def enhanced(order: str, interface: int, time: int, data: bytes) -> tuple[int, bytes]:
    return 6, struct.pack(
        order + "IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(data), len(data)
    ) + data


def test_literal_bytes() -> None:
    writer = Writer(pcap.IEEE802154_WITH_FCS)
    assert writer.header() == bytes.fromhex(HEADER)
    record = Record(1_700_000_000_123_456_000, 195, b"\2\0\7")
    assert writer.record(record.timestamp, record.data) == bytes.fromhex(RECORD)
    assert list(Reader(bytes.fromhex(HEADER + RECORD))) == [record]


records = st.lists(st.tuples(st.integers(0, 2**32 * 10**9 - 1), st.binary(max_size=40)))


@given(records)
def test_reader_inverts_writer(frames: list[tuple[int, bytes]]) -> None:
    writer = Writer(230, nanoseconds=True)
    data = writer.header() + b"".join(writer.record(*frame) for frame in frames)
    assert list(Reader(data)) == [(time, 230, frame) for time, frame in frames]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_both_byte_orders_and_resolutions(order: str, magic: int, unit: int) -> None:
    data = (
        struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 100, 195)
        + struct.pack(order + "IIII", 5, 6, 2, 2)
        + b"ab"
    )
    assert list(Reader(data)) == [(5_000_000_000 + 6 * unit, 195, b"ab")]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(order: str) -> None:
    interfaces = [
        (1, struct.pack(order + "HHI", 195, 0, 0)),
        (1, struct.pack(order + "HHI", 230, 0, 2) + struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)),
        (
            1,
            struct.pack(order + "HHI", 1, 0, 0)
            + struct.pack(order + "HHB3xHHqHH", 9, 1, 0x8A, 14, 8, 7, 0, 0),
        ),
    ]
    data = pcapng(
        order,
        interfaces[0],
        (0x0BAD, b"skipped"),
        enhanced(order, 0, 5_000_006, b"abc"),
        interfaces[1],
        interfaces[2],
        enhanced(order, 1, 5_000_000_006, b"de"),
        enhanced(order, 2, 3 << 9, b"f"),
        (3, struct.pack(order + "I", 4) + b"simp"),
        (2, struct.pack(order + "HHIIII", 1, 0, 0, 9, 1, 1) + b"o"),
    ) + pcapng(order, interfaces[1], (3, struct.pack(order + "I", 9) + b"12"))
    assert list(Reader(data)) == [
        (5_000_006_000, 195, b"abc"),
        (5_000_000_006, 230, b"de"),
        (8_500_000_000, 1, b"f"),
        (0, 195, b"simp"),
        (9, 230, b"o"),
        (0, 230, b"12"),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "pcap-empty"),
        (b"\xd4\xc3", "pcap-magic"),
        (b"GIF89a and so on, for a while", "pcap-magic"),
        (bytes.fromhex(HEADER)[:-1], "pcap-truncated"),
        (bytes.fromhex("d4c3b2a1 0300" + HEADER[13:]), "pcap-version"),
    ],
)
def test_files_that_are_no_captures(data: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        Reader(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (bytes.fromhex(RECORD)[:15], "pcap-truncated"),
        (bytes.fromhex(RECORD)[:-1], "pcap-truncated"),
        (struct.pack("<IIII", 0, 0, 300_000, 300_000) + bytes(300_000), "pcap-record"),
    ],
)
def test_damage_comes_after_what_is_good(damage: bytes, reason: str) -> None:
    frames = iter(Reader(bytes.fromhex(HEADER + RECORD) + damage))
    assert next(frames).data == b"\2\0\7"
    with pytest.raises(WireError) as caught:
        next(frames)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"\6\0\0\0\x20\0", "pcap-truncated"),
        (struct.pack("<II", 6, 64) + bytes(16), "pcap-truncated"),
        (struct.pack("<III", 6, 13, 13) + b"\0", "pcapng-block"),
        (struct.pack("<III", 6, 4, 4), "pcapng-block"),
        (struct.pack("<III", 6, 12, 16), "pcapng-block"),
        (block(*enhanced("<", 1, 0, b"x")), "pcapng-interface"),
        (block(6, bytes(8)), "pcapng-block"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 50, 50)), "pcapng-block"),
        (block(1, b"\xc3\0"), "pcapng-block"),
        (block(0x0A0D0D0A, bytes(16)), "pcapng-block"),
    ],
)
def test_damage_in_pcapng(damage: bytes, reason: str) -> None:
    good = pcapng("<", (1, struct.pack("<HHI", 195, 0, 0)), enhanced("<", 0, 0, b"good"))
    frames = iter(Reader(good + damage))
    assert next(frames).data == b"good"
    with pytest.raises(WireError) as caught:
        next(frames)
    assert caught.value.reason == reason


STARTS = [
    b"",
    bytes.fromhex(HEADER),
    bytes.fromhex(HEADER + RECORD),
    pcapng("<"),
    pcapng(">", (1, struct.pack(">HHI", 195, 0, 0))),
]


@given(
    st.sampled_from(STARTS),
    st.binary(max_size=200),
    st.sampled_from([b"", struct.pack("<II", 6, 32), struct.pack(">II", 1, 20)]),
)
def test_any_bytes(start: bytes, data: bytes, block_start: bytes) -> None:
    try:
        frames = list(Reader(start + block_start + data))
    except WireError:
        return
    assert sum(len(frame.data) for frame in frames) <= len(data) + len(RECORD)
