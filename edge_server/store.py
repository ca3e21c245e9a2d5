"""What was answered: exact replay intervals per (device, epoch), and the last sealed answers, in SQLite.

The key of replay protection is (device, epoch, counter) and the set is exact (docs/protocol.md, section 4):
no sliding window. Only that nobody who has a device's keys makes it grow for ever: beyond `INTERVALS` of a
device and epoch the two lowest are joined; nothing is ever answered twice for that. A batch is one
transaction, committed (synchronous = FULL) before its answers leave. Answers are kept for the `keep` newest
counters of each (device, epoch), so that a retry gets the same bytes again.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from edge_server.errors import EdgeError
from security.errors import StateError
from security.replay import Intervals
from slimwire.directory_lock import DirectoryLock

SCHEMA_VERSION = 1
#: Intervals kept of each (device, epoch). A device has a few. One that alternates between two gateways, of
#: which one delivers nothing, makes one with each message, and fills them when that one is back.
INTERVALS = 1 << 18
FILE = "edge.sqlite"

_SCHEMA = """
CREATE TABLE used (
  device BLOB, epoch INTEGER, low INTEGER, high INTEGER, PRIMARY KEY (device, epoch, low)
) WITHOUT ROWID;
CREATE TABLE answers (
  device BLOB, epoch INTEGER, counter INTEGER, sealed BLOB, PRIMARY KEY (device, epoch, counter)
) WITHOUT ROWID;
"""


class Store:
    """Replay intervals and stored answers. One thread at a time; one process per directory.

    Args:
        directory: where the database lives (made if missing), or None: memory only, forgotten at exit.
        keep: newest counters of each (device, epoch) whose answers are kept.
        intervals: most intervals of used counters of each (device, epoch).

    Raises:
        EdgeError: the directory is in use, not writable, or holds another version's database.
    """

    def __init__(self, directory: Path | None = None, *, keep: int = 256, intervals: int = INTERVALS) -> None:
        self.directory = directory
        self._keep = keep
        self._most = intervals
        held = f"the state directory {directory} belongs to another edge server that is running"
        self._lock = DirectoryLock(directory, "lock", held, EdgeError)
        path = ":memory:" if directory is None else str(directory / FILE)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._open(path)
            self._used = self._restore()
        except (sqlite3.DatabaseError, StateError) as error:
            self.close()
            raise EdgeError(
                f"{path} is not an edge server's state: {error}",
                remedy="name another --state directory, or move this one away (counters would be forgotten)",
            ) from error

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and let go of the directory."""
        self._db.close()
        self._lock.release()

    def used(self, device: bytes, epoch: int, counter: int) -> bool:
        """Whether this counter was answered before, ever."""
        intervals = self._used.get((device, epoch))
        return intervals is not None and counter in intervals

    def answer(self, device: bytes, epoch: int, counter: int) -> bytes:
        """The stored sealed answer, or b"" where it is no longer kept."""
        row = self._db.execute(
            "SELECT sealed FROM answers WHERE device = ? AND epoch = ? AND counter = ?",
            (device, epoch, counter),
        ).fetchone()
        return bytes(row[0]) if row else b""

    def commit(self, answers: Iterable[tuple[bytes, int, int, bytes]]) -> None:
        """Mark counters used and store their answers, all or none, durably.

        Args:
            answers: (device EUI-64, epoch, counter, sealed answer), none of them used before.

        Raises:
            EdgeError: the disk is full or does not work; nothing was marked.
        """
        answers = list(answers)
        if not answers:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for device, epoch, counter, sealed in answers:
                self._mark(device, epoch, counter)
                self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (device, epoch, counter, sealed))
            for device, epoch in {a[:2] for a in answers}:
                self._bound(device, epoch, len(answers))
                self._db.execute(
                    "DELETE FROM answers WHERE device = ?1 AND epoch = ?2 AND counter <= "
                    "(SELECT MAX(counter) FROM answers WHERE device = ?1 AND epoch = ?2) - ?3",
                    (device, epoch, self._keep),
                )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise EdgeError(
                    f"the state in {self.directory} cannot be written: {error}",
                    remedy="free some space on its disk, or give the server another --state directory",
                ) from error
            raise
        for device, epoch, counter, _ in answers:
            self._intervals(device, epoch).add(counter)

    def stored_answers(self) -> int:
        """Answers kept now, all devices."""
        return int(self._db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def record(self) -> dict[tuple[bytes, int], list[int]]:
        """All counters ever answered, by (device, epoch), as `Intervals.to_list` gives them."""
        return {key: intervals.to_list() for key, intervals in self._used.items()}

    def _open(self, path: str) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            self.close()
            raise EdgeError(
                f"{path} has version {version}",
                expected=f"version {SCHEMA_VERSION}",
                remedy="run the release that wrote it, or name another --state directory",
            )

    def _restore(self) -> dict[tuple[bytes, int], Intervals]:
        bounds: dict[tuple[bytes, int], list[int]] = {}
        rows = self._db.execute("SELECT device, epoch, low, high FROM used ORDER BY low")
        for device, epoch, low, high in rows:
            bounds.setdefault((device, epoch), []).extend((low, high))
        return {key: Intervals.from_list(flat, self._most) for key, flat in bounds.items()}

    def _intervals(self, device: bytes, epoch: int) -> Intervals:
        return self._used.setdefault((device, epoch), Intervals(self._most))

    def _bound(self, device: bytes, epoch: int, added: int) -> None:
        """Join the lowest rows where there are too many, as `Intervals` does; `added` are new at most."""
        key = (device, epoch)
        if self._intervals(*key).spans + added <= self._most:
            return
        (count,) = self._db.execute(
            "SELECT COUNT(*) FROM used WHERE device = ? AND epoch = ?", key
        ).fetchone()
        if count <= self._most:
            return
        joined = self._db.execute(
            "SELECT low, high FROM used WHERE device = ? AND epoch = ? ORDER BY low LIMIT ?",
            (*key, count - self._most + 1),
        ).fetchall()
        self._db.execute(
            "DELETE FROM used WHERE device = ? AND epoch = ? AND low <= ?", (*key, joined[-1][0])
        )
        self._db.execute("INSERT INTO used VALUES (?, ?, ?, ?)", (*key, joined[0][0], joined[-1][1]))

    def _mark(self, device: bytes, epoch: int, counter: int) -> None:
        """Extend, insert or join rows, so that they are the intervals' own (disjoint, not adjacent)."""
        key = (device, epoch)
        left = self._db.execute(
            "SELECT low, high FROM used WHERE device = ? AND epoch = ? AND low <= ? "
            "ORDER BY low DESC LIMIT 1",
            (*key, counter),
        ).fetchone()
        if left and left[1] >= counter:
            return
        right = self._db.execute(
            "SELECT high FROM used WHERE device = ? AND epoch = ? AND low = ?", (*key, counter + 1)
        ).fetchone()
        if right:
            self._db.execute(
                "DELETE FROM used WHERE device = ? AND epoch = ? AND low = ?", (*key, counter + 1)
            )
        low = left[0] if left and left[1] == counter - 1 else counter
        self._db.execute(
            "INSERT OR REPLACE INTO used VALUES (?, ?, ?, ?)", (*key, low, right[0] if right else counter)
        )
