"""Capture files: pcap, read and written, and pcapng, read (draft-ietf-opsawg-pcap and -pcapng).

    pcap, in the writer's byte order        each record
    0   4  magic a1b2c3d4, ns: a1b23c4d     0   4  seconds since 1970
    4   4  version 2.4                      4   4  microseconds, or nanoseconds
    8   8  0                                8   4  length kept
    16  4  longest record                   12  4  length on the air
    20  4  link type                        16 ..  the frame

    pcapng: blocks of  type (4) | length (4) | body, padded to 4 | length (4)
    section header 0a0d0d0a, interface 1, simple packet 3, enhanced packet 6, packet 2 (old); others are
    skipped

Reasons: `pcap-empty`, `pcap-magic`, `pcap-version`, `pcap-truncated`, `pcap-record`, `pcapng-block`,
`pcapng-interface`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from wire.errors import WireError

ETHERNET = 1
RAW_IP = 101
LINUX_SLL = 113
IEEE802154_WITH_FCS = 195
IEEE802154_NO_FCS = 230
LINUX_SLL2 = 276
IEEE802154_TAP = 283

#: No record is longer: what claims to be is damage.
MAX_RECORD = 262_144

_MICROS, _NANOS = 0xA1B2C3D4, 0xA1B23C4D
_BYTE_ORDER = 0x1A2B3C4D
_SECTION_BYTES = b"\x0a\x0d\x0d\x0a"
_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 1, 2, 3, 6
_OPTION_END, _OPTION_RESOLUTION, _OPTION_OFFSET = 0, 9, 14


class Record(NamedTuple):
    """One captured frame: nanoseconds since 1970 (0 if the file has no time), link type, and its bytes."""

    timestamp: int
    linktype: int
    data: bytes


class Reader:
    """The frames of a capture file, in order.

    Iterating yields `Record`s, and raises WireError at the first damage: what came before is still good.

    Args:
        data: the whole file.

    Raises:
        WireError: `pcap-empty`, `pcap-magic`, `pcap-version` or `pcap-truncated`, if the file does not even
            start as a capture.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = ""
        self._nanos = False
        #: The one link type of a pcap file; None for pcapng, where each interface has its own.
        self.linktype: int | None = None
        if not data:
            raise WireError("pcap-empty", "the file is empty: expected a pcap or pcapng header")
        if data[:4] == _SECTION_BYTES:
            return
        for order in ("<", ">"):
            magic = struct.unpack_from(order + "I", data)[0] if len(data) >= 4 else 0
            if magic in (_MICROS, _NANOS):
                self._order, self._nanos = order, magic == _NANOS
        if not self._order:
            found = data[:4].hex(" ")
            raise WireError(
                "pcap-magic", f"the file starts with {found}: expected pcap's or pcapng's magic number"
            )
        if len(data) < 24:
            raise WireError("pcap-truncated", f"{len(data)} bytes: a pcap header has 24")
        major, minor = struct.unpack_from(self._order + "HH", data, 4)
        if major != 2:
            raise WireError("pcap-version", f"pcap version {major}.{minor}: expected 2.x")
        # The upper bits may carry the length of the FCS; 802.15.4's link types say it themselves.
        self.linktype = struct.unpack_from(self._order + "I", data, 20)[0] & 0xFFFF

    def __iter__(self) -> Iterator[Record]:
        return self._pcapng() if self.linktype is None else self._pcap(self.linktype)

    def _pcap(self, linktype: int) -> Iterator[Record]:
        data = self._data
        layout = struct.Struct(self._order + "IIII")
        factor = 1 if self._nanos else 1000
        at, number = 24, 1
        while at < len(data):
            if at + 16 > len(data):
                raise WireError("pcap-truncated", f"the file ends within the header of record {number}")
            seconds, fraction, length, _ = layout.unpack_from(data, at)
            at += 16
            _check_length(length, number)
            if at + length > len(data):
                raise WireError(
                    "pcap-truncated",
                    f"the file ends {at + length - len(data)} bytes short of record {number}'s end",
                )
            yield Record(seconds * 1_000_000_000 + fraction * factor, linktype, data[at : at + length])
            at += length
            number += 1

    def _pcapng(self) -> Iterator[Record]:
        data = self._data
        order = ""
        interfaces: list[_Interface] = []
        at, number = 0, 1
        while at < len(data):
            if at + 12 > len(data):
                raise WireError("pcap-truncated", f"the file ends within the block at byte {at}")
            if data[at : at + 4] == _SECTION_BYTES:
                order = _section_order(data, at)
                interfaces = []
            kind, length = struct.unpack_from(order + "II", data, at)
            if length < 12 or length % 4:
                raise WireError(
                    "pcapng-block", f"a block of {length} bytes at byte {at}: expected 12, 16, 20, ..."
                )
            if at + length > len(data):
                raise WireError("pcap-truncated", f"the file ends within the block at byte {at}")
            if struct.unpack_from(order + "I", data, at + length - 4)[0] != length:
                raise WireError("pcapng-block", f"the block at byte {at} has two different lengths")
            body = data[at + 8 : at + length - 4]
            at += length
            if kind == _INTERFACE:
                interfaces.append(_Interface.parse(body, order))
            elif kind in (_ENHANCED_PACKET, _SIMPLE_PACKET, _OLD_PACKET):
                yield _packet(kind, body, order, interfaces, number)
                number += 1


def _check_length(length: int, number: int) -> None:
    if length > MAX_RECORD:
        raise WireError(
            "pcap-record", f"record {number} claims {length} bytes: at most {MAX_RECORD} are credible"
        )


def _section_order(data: bytes, at: int) -> str:
    for order in ("<", ">"):
        if struct.unpack_from(order + "I", data, at + 8)[0] == _BYTE_ORDER:
            return order
    raise WireError("pcapng-block", f"the section header at byte {at} has no byte-order magic")


@dataclass(slots=True)
class _Interface:
    """What an interface description says of its packets. A timestamp counts 1/`divisor` s from `offset` s."""

    linktype: int
    snap: int
    divisor: int
    offset: int

    @classmethod
    def parse(cls, body: bytes, order: str) -> "_Interface":
        if len(body) < 8:
            raise WireError(
                "pcapng-block", f"an interface description of {len(body)} bytes: expected at least 8"
            )
        linktype, _, snap = struct.unpack_from(order + "HHI", body)
        divisor, offset, at = 1_000_000, 0, 8
        while at + 4 <= len(body):
            code, length = struct.unpack_from(order + "HH", body, at)
            value = body[at + 4 : at + 4 + length]
            if code == _OPTION_END or len(value) < length:
                break
            if code == _OPTION_RESOLUTION and length == 1:
                divisor = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            if code == _OPTION_OFFSET and length == 8:
                offset = struct.unpack(order + "q", value)[0]
            at += 4 + (length + 3) // 4 * 4
        return cls(linktype, snap, divisor, offset)

    def time(self, high: int, low: int) -> int:
        return (self.offset * 1_000_000_000) + (high << 32 | low) * 1_000_000_000 // self.divisor


def _packet(kind: int, body: bytes, order: str, interfaces: list[_Interface], number: int) -> Record:
    header = 4 if kind == _SIMPLE_PACKET else 20
    if len(body) < header:
        raise WireError(
            "pcapng-block", f"the block of packet {number} has {len(body)} bytes: expected {header}"
        )
    index = high = low = 0
    if kind == _SIMPLE_PACKET:
        length = struct.unpack_from(order + "I", body)[0]
    elif kind == _ENHANCED_PACKET:
        index, high, low, length, _ = struct.unpack_from(order + "IIIII", body)
    else:
        index, _, high, low, length, _ = struct.unpack_from(order + "HHIIII", body)
    if index >= len(interfaces):
        raise WireError(
            "pcapng-interface", f"packet {number} names interface {index}, which is not described"
        )
    interface = interfaces[index]
    if kind == _SIMPLE_PACKET and interface.snap:
        length = min(length, interface.snap)
    _check_length(length, number)
    if header + length > len(body):
        raise WireError(
            "pcapng-block", f"packet {number} claims {length} bytes, its block has {len(body) - header}"
        )
    return Record(interface.time(high, low), interface.linktype, body[header : header + length])


class Writer:
    """The bytes of a pcap file: `header()` once, then one `record()` a frame. Little endian.

    Args:
        linktype: of every record.
        nanoseconds: whether timestamps keep nanoseconds, rather than microseconds.
    """

    def __init__(self, linktype: int, *, nanoseconds: bool = False) -> None:
        self.linktype = linktype
        self._magic = _NANOS if nanoseconds else _MICROS
        self._unit = 1 if nanoseconds else 1000

    def header(self) -> bytes:
        """The file's first 24 bytes."""
        return struct.pack("<IHHiIII", self._magic, 2, 4, 0, 0, MAX_RECORD, self.linktype)

    def record(self, timestamp: int, data: bytes) -> bytes:
        """One record; `timestamp` in nanoseconds since 1970."""
        seconds, nanos = divmod(timestamp, 1_000_000_000)
        return struct.pack("<IIII", seconds, nanos // self._unit, len(data), len(data)) + data
