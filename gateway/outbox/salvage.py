"""Whatever can still be read of a damaged SQLite file: its pages one by one, without its trees.

A database is pages of one size; the rows of an ordinary table lie in leaf pages of their own (SQLite's file
format, sections 1.5 and 2.1). A page that is whole gives up its rows whatever happened to the file's header,
to the pages above it or to its neighbours; the write-ahead log is pages too, each behind 24 bytes.
What a row is, and whether it is whole, its own checksum says (`gateway.outbox.rows`).

Old versions of pages come back as well, deleted messages with them. That is harmless: the edge server knows
exactly what it has answered, and answers nothing twice.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gateway.outbox import rows

#: The page size of every database that the outbox makes.
PAGE = 4096

_LEAF = 0x0D
_WAL_HEADER, _WAL_FRAME = 32, 24
#: A row longer than this goes on in other pages; none of ours is.
_MOST_LOCAL = PAGE - 35
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class Salvaged(NamedTuple):
    """What a damaged outbox still says."""

    #: By (device, epoch, counter).
    messages: dict[tuple[bytes, int, int], rows.Message]
    #: Intervals by (device, epoch); those of `messages` are among them.
    used: dict[tuple[bytes, int], list[int]]
    #: The newest of each device.
    trust: dict[bytes, rows.TrustRow]


def salvage(database: Path, limit: int) -> Salvaged:
    """Read what is readable of a database file and its write-ahead log.

    Args:
        database: the file; the log lies beside it as `…-wal`.
        limit: intervals of used counters kept per device and epoch.
    """
    messages: dict[tuple[bytes, int, int], rows.Message] = {}
    flats: dict[tuple[bytes, int], list[list[int]]] = {}
    trust: dict[bytes, rows.TrustRow] = {}
    for rowid, columns in _records(database):
        # The table's own integer key is not in the record, but beside it.
        message = rows.message_of((rowid, *columns[1:])) if columns[:1] == [None] else None
        if message is not None:
            key = (message.device, message.epoch, message.counter)
            messages.setdefault(key, message)
            flats.setdefault(key[:2], []).append([message.counter, message.counter])
        elif (used := rows.used_of(columns)) is not None:
            flats.setdefault(used[:2], []).append(used[2])
        elif (told := rows.trust_of(columns)) is not None and (
            told.device not in trust or told.written >= trust[told.device].written
        ):
            trust[told.device] = told
    merged = {key: rows.union(found, limit) for key, found in flats.items()}
    return Salvaged(messages, merged, trust)


def _records(database: Path) -> Iterator[tuple[int, list[Any]]]:
    """Row key and columns of everything that looks like a row of a table."""
    for page in _pages(database):
        # Page 1 begins with the file's header; a log's copy of it does too.
        start = 100 if page.startswith(b"SQLite format 3\0") else 0
        if page[start] == _LEAF:
            yield from _cells(page, start)


def _pages(database: Path) -> Iterator[bytes]:
    for path, begin, gap in (
        (database, 0, 0),
        (database.with_name(database.name + "-wal"), _WAL_HEADER, _WAL_FRAME),
    ):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        with file:
            file.seek(begin)
            while len(block := file.read(gap + PAGE)) == gap + PAGE:
                yield block[gap:]


def _cells(page: bytes, start: int) -> Iterator[tuple[int, list[Any]]]:
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for i in range(min(count, PAGE // 4)):
        at = int.from_bytes(page[start + 8 + 2 * i : start + 10 + 2 * i], "big")
        try:
            length, at = _varint(page, at)
            rowid, at = _varint(page, at)
            if 0 < length <= min(_MOST_LOCAL, PAGE - at):
                yield rowid, _columns(page[at : at + length])
        except (IndexError, struct.error, UnicodeDecodeError):
            continue  # a damaged cell; the others have their own checksums


def _columns(record: bytes) -> list[Any]:
    """The values of one record (SQLite's file format, section 2.1). Raises IndexError if it is none."""
    end, at = _varint(record, 0)
    body = end
    columns: list[Any] = []
    while at < end:
        kind, at = _varint(record, at)
        value: Any
        if kind in (0, 8, 9):
            value, size = (None, 0, 1)[kind and kind - 7], 0
        elif kind in _INTEGERS:
            size = _INTEGERS[kind]
            value = int.from_bytes(record[body : body + size], "big", signed=True)
        elif kind == 7:
            size = 8
            value = struct.unpack_from(">d", record, body)[0]
        elif kind >= 12:
            size = (kind - 12) // 2
            value = record[body : body + size]
            if kind % 2:
                value = value.decode()
        else:
            raise IndexError(kind)
        body += size
        if body > len(record):
            raise IndexError(body)
        columns.append(value)
    return columns


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (signed, 64 bits) and where it ends. Raises IndexError beyond the end."""
    value = 0
    for i in range(9):
        octet = data[at + i]
        if i == 8:
            value = value << 8 | octet
            return value - (1 << 64) if value >> 63 else value, at + 9
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + i + 1
    raise AssertionError
