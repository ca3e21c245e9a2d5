"""The outbox's database at work: one transaction for whatever waits. One thread at a time; no asyncio here.

In one transaction: messages come into custody, their counters are marked used, messages that the edge server
took leave, with what that did to the trust in their devices, and the outbox's clock is kept. A row of `used`
holds the whole set of a device and epoch, so that marking a counter writes one short row.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gateway.outbox import rows
from gateway.outbox.clock import Clock
from gateway.outbox.database import FILE, OutboxError, open_database, surroundings
from gateway.outbox.rows import Message, TrustRow
from security.errors import StateError
from security.replay import Intervals
from slimwire.directory_lock import DirectoryLock
from wire.reply import CustodyStatus

_T = TypeVar("_T")

#: Intervals of used counters kept per device and epoch: a hostile device that scatters its counters must not
#: make memory grow. The edge server's record is exact.
USED_INTERVALS = 256
#: Ids, and rows, in one statement: fewer variables than every SQLite since 3.32 takes.
_VARIABLES = 512
_ROWS = 64


class Offered(NamedTuple):
    """A message that asks for custody: `Message` without its place."""

    device: bytes
    epoch: int
    counter: int
    octet0: int
    came: float
    sealed: bytes


class Gone(NamedTuple):
    """A message that was too old, and the bytes it sealed."""

    id: int
    device: bytes
    size: int


@dataclass
class Work:
    """What one transaction is to do.

    Attributes:
        offered: messages that ask for custody, in order.
        taken: ids of messages that the edge server took.
        trust: rows to keep, by device.
        forget: devices whose trust is not kept any more, unless `trust` has a new row of them.
        expire: messages that came before this reading of the outbox's clock leave; None: none does.
    """

    offered: list[Offered] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    trust: dict[bytes, TrustRow] = field(default_factory=dict)
    forget: list[bytes] = field(default_factory=list)
    expire: float | None = None

    def __bool__(self) -> bool:
        return bool(self.offered or self.taken or self.trust or self.forget or self.expire is not None)


class Done(NamedTuple):
    """What became of it.

    Attributes:
        committed: for each offered message its row if it is in custody now, else the status to tell instead.
        kept: whether `taken`, `trust` and `forget` are done; if not, they are to be done again.
        gone: messages that left because they were too old.
        problem: why something was not done; "" if all was.
    """

    committed: list[Message | CustodyStatus]
    kept: bool
    gone: list[Gone]
    problem: str = ""


class Store:
    """The database of one gateway.

    Args:
        directory: where it lives (made if missing), or None: memory only.

    Raises:
        OutboxError: the directory or the file cannot be used, or another gateway uses them.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory
        held = f"the outbox in {directory} belongs to another gateway that is running"
        self._lock = DirectoryLock(directory, "outbox.lock", held, OutboxError, mode=0o700)
        self.path = path = None if directory is None else directory / FILE
        try:
            self._db = open_database(path, limit=USED_INTERVALS)
        except BaseException:
            self._lock.release()
            raise
        try:
            saved = self._db.execute("SELECT reading, boot, since_boot FROM clock").fetchone()
            self.clock = Clock(saved)
            self._used = self._restore()
            self._next = 1 + int(self._db.execute("SELECT COALESCE(MAX(id), 0) FROM messages").fetchone()[0])
        except (sqlite3.Error, StateError) as error:
            self.close()
            raise OutboxError(
                f"the outbox {path} cannot be read: {error}",
                remedy="restore it from a backup, or move it away",
            ) from error

    @property
    def durable(self) -> bool:
        """Whether what is committed outlives the process."""
        return self.path is not None

    def close(self) -> None:
        """Close the database and let go of the directory."""
        self._db.close()
        self._lock.release()

    def used(self) -> dict[tuple[bytes, int], list[int]]:
        """All used counters, as `Intervals.to_list` gives them, by (device, epoch)."""
        return {key: intervals.to_list() for key, intervals in self._used.items()}

    def trust(self) -> list[TrustRow]:
        """What was kept of each device, oldest first."""
        found = self._db.execute("SELECT * FROM trust ORDER BY written").fetchall()
        return [row for row in map(rows.trust_of, found) if row is not None]

    def sizes(self) -> dict[bytes, tuple[int, int]]:
        """Messages in custody and their sealed bytes, by device."""
        found = self._db.execute("SELECT device, COUNT(*), SUM(LENGTH(sealed)) FROM messages GROUP BY device")
        return {device: (count, size) for device, count, size in found}

    def last(self) -> int:
        """The highest id given out so far."""
        return self._next - 1

    def oldest(self) -> float | None:
        """When the message that is here for longest came, s of the outbox's clock."""
        found = self._db.execute("SELECT came FROM messages ORDER BY id LIMIT 1").fetchone()
        return None if found is None else float(found[0])

    def page(self, after: int, until: int, count: int) -> list[Message]:
        """The first `count` messages with ids above `after` and up to `until`."""
        found = self._db.execute(
            "SELECT * FROM messages WHERE id > ? AND id <= ? ORDER BY id LIMIT ?", (after, until, count)
        )
        return [Message(*row[:7]) for row in found]

    def commit(self, work: Work) -> Done:
        """Do `work` in one transaction, durably; where that fails for want of room, without `offered`.

        Raises:
            OutboxError: the file is damaged; starting again mends it.
        """
        try:
            return self._commit(work)
        except sqlite3.Error as error:
            if surroundings(error):
                return self._without_room(work, str(error))
            raise OutboxError(
                f"the outbox {self.path} is damaged: {error}",
                remedy="start the gateway again: it keeps the damaged file and goes on with all that is "
                "readable in it",
            ) from error

    def _without_room(self, work: Work, problem: str) -> Done:
        """What is offered is refused; the rest needs less room, and may make some."""
        refused: list[Message | CustodyStatus] = [CustodyStatus.FULL] * len(work.offered)
        if not work.offered:
            return Done(refused, False, [], problem)
        try:
            done = self._commit(replace(work, offered=[]))
        except sqlite3.Error as error:
            if not surroundings(error):
                raise
            return Done(refused, False, [], problem)
        return Done(refused, True, done.gone, problem)

    def _commit(self, work: Work) -> Done:
        db, marked = self._db, dict[tuple[bytes, int], Intervals]()
        results: list[Message | CustodyStatus] = []
        made = []
        following = self._next
        db.execute("BEGIN IMMEDIATE")
        try:
            for offered in work.offered:
                key = offered[:2]
                intervals = marked.get(key)
                if intervals is None:
                    intervals = marked[key] = self._used.get(key) or Intervals(USED_INTERVALS)
                if not intervals.add(offered.counter):
                    results.append(CustodyStatus.ALREADY)
                    continue
                message = Message(following, *offered)
                following += 1
                made.append(rows.message_row(message))
                results.append(message)
            if made:
                self._insert("messages", made)
                self._insert("used", [rows.used_row(*key, own.to_list()) for key, own in marked.items()])
            for some in _parts(work.taken, _VARIABLES):
                db.execute(f"DELETE FROM messages WHERE id IN ({','.join('?' * len(some))})", some)
            for lost in _parts(work.forget, _VARIABLES):
                db.execute(f"DELETE FROM trust WHERE device IN ({','.join('?' * len(lost))})", lost)
            if work.trust:
                self._insert("trust", list(map(rows.trust_row, work.trust.values())))
            gone = self._expire(work.expire)
            db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", self.clock.state())
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            for key in marked:
                self._reload(key)
            raise
        self._used.update(marked)
        self._next = following
        return Done(results, True, gone)

    def _insert(self, table: str, made: Sequence[tuple[Any, ...]]) -> None:
        """Many rows a statement: each statement lets go of the interpreter's lock once, and a busy event loop
        takes a while to give it back.
        """
        for some in _parts(made, _ROWS):
            row = f"({','.join('?' * len(some[0]))})"
            self._db.execute(
                f"INSERT OR REPLACE INTO {table} VALUES {','.join([row] * len(some))}",
                [value for columns in some for value in columns],
            )

    def _expire(self, before: float | None) -> list[Gone]:
        if before is None:
            return []
        found = self._db.execute(
            "DELETE FROM messages WHERE came < ? RETURNING id, device, LENGTH(sealed)", (before,)
        ).fetchall()
        return [Gone(*row) for row in found]

    def _restore(self) -> dict[tuple[bytes, int], Intervals]:
        found = self._db.execute("SELECT * FROM used").fetchall()
        return {(row[0], row[1]): self._intervals(row) for row in found}

    def _reload(self, key: tuple[bytes, int]) -> None:
        """Take the set from the database again: the transaction that changed it did not come to be."""
        row = self._db.execute("SELECT * FROM used WHERE device = ? AND epoch = ?", key).fetchone()
        if row is None:
            self._used.pop(key, None)
        else:
            self._used[key] = self._intervals(row)

    @staticmethod
    def _intervals(row: Sequence[object]) -> Intervals:
        used = rows.used_of(row)
        if used is None:
            raise StateError("a set of used counters fails its checksum")
        return Intervals.from_list(used[2], USED_INTERVALS)


def _parts(items: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    """In order, parts of lengths that come again and again, so that their statements are compiled once."""
    at, size = 0, most
    while at < len(items):
        while size > len(items) - at:
            size //= 2
        yield items[at : at + size]
        at += size
