"""The outbox's file: opened, checked, brought to this version, or rebuilt from what is readable.

```
outbox.sqlite                     the database (with -wal and -shm while it is open)
outbox.sqlite.v1.backup           a copy made before it was brought from version 1 to the next
outbox.sqlite.damaged-1           a file that failed its check, set aside with its -wal, never overwritten
```
"""

import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError
from gateway.outbox import rows
from gateway.outbox.salvage import PAGE, Salvaged, salvage
from security.durable import sync_directory

_log = logging.getLogger("gateway.outbox")

FILE = "outbox.sqlite"
#: "SWob": what tells the outbox from other databases.
APPLICATION = 0x53576F62
VERSION = 1

SCHEMA = """
CREATE TABLE messages (
  id INTEGER PRIMARY KEY, device BLOB NOT NULL, epoch INTEGER NOT NULL, counter INTEGER NOT NULL,
  octet0 INTEGER NOT NULL, came REAL NOT NULL, sealed BLOB NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE used (
  device BLOB, epoch INTEGER, spans BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (device, epoch)
);
CREATE TABLE trust (
  device BLOB PRIMARY KEY, engine TEXT NOT NULL, written REAL NOT NULL, state TEXT NOT NULL,
  crc INTEGER NOT NULL
);
CREATE TABLE clock (
  one INTEGER PRIMARY KEY CHECK (one = 1), reading REAL NOT NULL, boot TEXT NOT NULL, since_boot REAL NOT NULL
);
"""

#: What brings a database of a version to the next one. A step must not be changed once it was released.
STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {}


_SURROUNDINGS = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class OutboxError(GatewayError):
    """The outbox cannot be used; nothing in it was given up."""


def open_database(
    path: Path | None,
    *,
    limit: int,
    version: int = VERSION,
    steps: Mapping[int, Callable[[sqlite3.Connection], None]] = STEPS,
) -> sqlite3.Connection:
    """A connection in autocommit mode, write-ahead log, synchronous = FULL, for one thread at a time.

    A damaged file is set aside and what is readable of it is in the new one: see `gateway.outbox.salvage`.

    Args:
        path: of the file; None: memory only, forgotten at the end.
        limit: intervals of used counters kept per device and epoch, for a file that has to be rebuilt.
        version, steps: of this release.

    Raises:
        OutboxError: it belongs to a newer release or to another program, or cannot be read or written.
    """
    try:
        if path is None:
            return _create(_connect(":memory:"))
        existed = path.exists()
        if not existed:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        db = _connect(str(path))
        try:
            problem = _problem(db) if existed and path.stat().st_size else None
        except sqlite3.DatabaseError as error:
            if surroundings(error):
                raise
            problem = str(error)
        if problem is not None:
            db.close()
            return _rebuild(path, problem, limit)
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found == 0:
            return _create(db)
        _check_ours(db, path, found, version)
        _settle(db)
        _migrate(db, path, found, version, steps)
        path.with_name(path.name + ".new").unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as error:
        raise OutboxError(
            f"the outbox {path} cannot be used: {error}",
            expected="a file that the gateway's user can read and write, on a disk with room",
            remedy="correct its owner (chown), free space, or name another --state directory",
        ) from error
    return db


def surroundings(error: sqlite3.Error) -> bool:
    """Whether an error is about the disk or about who may do what there; else it is about the file itself."""
    return error.sqlite_errorcode & 0xFF in _SURROUNDINGS


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA page_size = {PAGE}")
    return db


def _settle(db: sqlite3.Connection) -> sqlite3.Connection:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA temp_store = MEMORY")
    return db


def _create(db: sqlite3.Connection) -> sqlite3.Connection:
    _settle(db)
    db.executescript(
        f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
    )
    return db


def _problem(db: sqlite3.Connection) -> str | None:
    """What is wrong with the file, None if nothing. Raises sqlite3.Error where it cannot even be asked.

    SQLite sees whether its pages and trees make sense; what the rows say, their own checksums know.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    if version > VERSION or (version and application != APPLICATION):
        return None  # not ours to judge, nor to mend
    _settle(db)
    found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if found != "ok":
        return found
    if version == VERSION:
        readers: tuple[tuple[str, Callable[[Sequence[Any]], object]], ...] = (
            ("messages", rows.message_of),
            ("used", rows.used_of),
            ("trust", rows.trust_of),
        )
        for table, reader in readers:
            if any(reader(row) is None for row in db.execute(f"SELECT * FROM {table}")):
                return f"a row of {table} fails its checksum"
    return None


def _check_ours(db: sqlite3.Connection, path: Path, found: int, version: int) -> None:
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    if application != APPLICATION:
        db.close()
        raise OutboxError(
            f"{path} is the database of another program",
            expected="an outbox",
            remedy="move it away, or name another --state directory",
        )
    if found > version:
        db.close()
        raise OutboxError(
            f"the outbox {path} has version {found}",
            expected=f"at most version {version}, that of this release",
            remedy=f"run the release that wrote it; a backup of before is {path.name}.v{version}.backup",
        )


def _migrate(
    db: sqlite3.Connection,
    path: Path,
    found: int,
    version: int,
    steps: Mapping[int, Callable[[sqlite3.Connection], None]],
) -> None:
    """Take the steps from version `found`, each one behind a backup and all or nothing."""
    for old in range(found, version):
        backup = path.with_name(f"{path.name}.v{old}.backup")
        _back_up(db, backup)
        db.execute("BEGIN IMMEDIATE")
        try:
            steps[old](db)
            db.execute(f"PRAGMA user_version = {old + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.close()
            raise
        _log.warning("outbox %s brought from version %d to %d; backup: %s", path, old, old + 1, backup.name)


def _back_up(db: sqlite3.Connection, path: Path) -> None:
    """A durable copy, mode 0600, under its final name only when it is whole."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(temporary)) as copy:
        db.backup(copy)
    handle = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)
    sync_directory(path.parent)


def _rebuild(path: Path, problem: str, limit: int) -> sqlite3.Connection:
    """Set the damaged file aside, and put what it still says into a new one.

    Whenever this is cut short, the next start finds the damaged file and its log, or the new file whole.
    """
    fresh, log = path.with_name(path.name + ".new"), path.with_name(path.name + "-wal")
    if not _whole(fresh):
        found = salvage(path, limit)
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(_create(_connect(str(fresh)))) as db:
            _fill(db, found)
            db.execute("PRAGMA journal_mode = DELETE")  # one file, so that a rename moves all of it
        aside = _keep(path, log)
        _log.error(
            "the outbox %s was damaged (%s) and is kept as %s: %d messages, the used counters of %d and the "
            "trust of %d devices were read from it and go on",
            path,
            problem,
            aside.name,
            len(found.messages),
            len({device for device, _ in found.used}),
            len(found.trust),
        )
    # A log beside another database than its own would be taken for that one's.
    for part in (log, path.with_name(path.name + "-shm")):
        part.unlink(missing_ok=True)
    fresh.replace(path)
    sync_directory(path.parent)
    return _settle(_connect(str(path)))


def _whole(fresh: Path) -> bool:
    """Whether a rebuilt database is there from a start that was cut short, with all that it was to get."""
    if not fresh.exists():
        return False
    try:
        with contextlib.closing(_connect(str(fresh))) as db:
            return bool(db.execute("SELECT COUNT(*) FROM clock").fetchone()[0])
    except sqlite3.DatabaseError:
        return False


def _keep(path: Path, log: Path) -> Path:
    """A second name for the damaged file and its log; or a copy, where files have but one name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for source, name in ((log, f"{aside.name}-wal"), (path, aside.name)):
        if source.exists():
            other = path.with_name(name)
            other.unlink(missing_ok=True)
            try:
                os.link(source, other)
            except OSError:
                shutil.copy2(source, other)
    sync_directory(path.parent)
    return aside


def _fill(db: sqlite3.Connection, found: Salvaged) -> None:
    db.execute("BEGIN IMMEDIATE")
    ordered = sorted(found.messages.values(), key=lambda message: message.id)
    db.executemany(
        "INSERT INTO messages VALUES (?,?,?,?,?,?,?,?)",
        [rows.message_row(message._replace(id=i)) for i, message in enumerate(ordered, 1)],
    )
    db.executemany(
        "INSERT INTO used VALUES (?,?,?,?)",
        [rows.used_row(device, epoch, flat) for (device, epoch), flat in found.used.items()],
    )
    db.executemany(
        "INSERT INTO trust VALUES (?,?,?,?,?)", [rows.trust_row(row) for row in found.trust.values()]
    )
    newest = max((message.came for message in ordered), default=0.0)
    db.execute("INSERT INTO clock VALUES (1, ?, '', 0)", (newest,))
    db.execute("COMMIT")
