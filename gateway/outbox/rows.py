"""What the outbox keeps, as rows that stand by themselves. Pure.

Every row ends in a CRC-32 over what it says and which table it is of, so that one found in a damaged file is
known to be whole, and known for what it is (`gateway.outbox.salvage`). Values are SQLite's: integers, floats,
bytes and text.

```
messages   id | device, epoch, counter, octet 0, came (s of the outbox's clock), sealed, crc
used       device, epoch, spans (first and last of each interval, u32 big endian), crc
trust      device, engine, written (s of the outbox's clock), state (JSON), crc
```
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from wire.message import MAX_COUNTER

_MESSAGE = struct.Struct(">c8sIIBd")
_USED = struct.Struct(">c8sI")
_TRUST = struct.Struct(">c8sd")


class Message(NamedTuple):
    """One message in the gateway's custody.

    Attributes:
        id: its place in the order of commits; larger is later.
        device: EUI-64. epoch: the full key epoch. octet0: F cleared.
        came: when the gateway had it whole, s of the outbox's clock.
        sealed: what the device sealed, byte for byte.
    """

    id: int
    device: bytes
    epoch: int
    counter: int
    octet0: int
    came: float
    sealed: bytes


class TrustRow(NamedTuple):
    """What a trust engine says of one device: its `to_dict` as JSON, and when, s of the outbox's clock."""

    device: bytes
    engine: str
    written: float
    state: str


def message_row(message: Message) -> tuple[Any, ...]:
    """All columns of `messages`."""
    _, device, epoch, counter, octet0, came, sealed = message
    return (*message, crc32(sealed, crc32(_MESSAGE.pack(b"m", device, epoch, counter, octet0, came))))


def used_row(device: bytes, epoch: int, flat: Sequence[int]) -> tuple[Any, ...]:
    """All columns of `used`; `flat` as `Intervals.to_list` gives it."""
    spans = struct.pack(f">{len(flat)}I", *flat)
    return device, epoch, spans, crc32(spans, crc32(_USED.pack(b"u", device, epoch)))


def trust_row(row: TrustRow) -> tuple[Any, ...]:
    """All columns of `trust`."""
    text = f"{row.engine}\n{row.state}".encode()
    return (*row, crc32(text, crc32(_TRUST.pack(b"t", row.device, row.written))))


def message_of(columns: Sequence[Any]) -> Message | None:
    """The inverse of `message_row`; None if the row is not one, or not whole."""
    try:
        message = Message(*columns[:7])
        whole = len(columns) == 8 and message_row(message)[7] == columns[7]
    except (struct.error, TypeError):
        return None
    return message if whole and type(message.id) is int and type(message.sealed) is bytes else None


def used_of(columns: Sequence[Any]) -> tuple[bytes, int, list[int]] | None:
    """Device, epoch and flat intervals; None if the row is not one, or not whole."""
    try:
        device, epoch, spans, check = columns
        flat = list(struct.unpack(f">{len(spans) // 4}I", spans))
        whole = used_row(device, epoch, flat)[3] == check
    except (struct.error, TypeError, ValueError):
        return None
    return (device, epoch, flat) if whole and len(flat) % 2 == 0 else None


def trust_of(columns: Sequence[Any]) -> TrustRow | None:
    """The inverse of `trust_row`; None if the row is not one, or not whole."""
    try:
        row = TrustRow(*columns[:4])
        whole = len(columns) == 5 and trust_row(row)[4] == columns[4]
    except (struct.error, TypeError):
        return None
    return row if whole and type(row.state) is str else None


def union(flats: Iterable[Sequence[int]], limit: int) -> list[int]:
    """One set of counters out of several, as `Intervals.to_list` gives them; at most `limit` intervals.

    Beyond the limit the lowest are joined, as `Intervals` does it.
    """
    spans = sorted(
        (first, last)
        for flat in flats
        for first, last in zip(flat[::2], flat[1::2], strict=True)
        if 0 <= first <= last <= MAX_COUNTER
    )
    joined: list[list[int]] = []
    for first, last in spans:
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    excess = len(joined) - limit
    if excess > 0:
        joined[: excess + 1] = [[joined[0][0], joined[excess][1]]]
    return [value for span in joined for value in span]
