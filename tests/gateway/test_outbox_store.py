"""The outbox's database: what a full disk, a crash, a new release or damage leave of what was committed."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbox import Message, Offered, OutboxError, Store, TrustRow
from gateway.outbox import database as db
from gateway.outbox.clock import Clock
from gateway.outbox.rows import message_of, message_row, trust_of, trust_row, union, used_of, used_row
from gateway.outbox.salvage import PAGE, salvage
from gateway.outbox.store import Work
from security.replay import Intervals
from wire.reply import CustodyStatus

DEVICE = bytes.fromhex("02000000000000aa")
OTHER = bytes.fromhex("02000000000000bb")


def offered(
    counter: int, device: bytes = DEVICE, *, epoch: int = 0, came: float = 1.0, size: int = 60
) -> Offered:
    return Offered(device, epoch, counter, 0x40, came, random.Random(f"{device!r} {counter}").randbytes(size))


def held(store: Store) -> dict[tuple[bytes, int], bytes]:
    """Sealed bytes in custody by device and counter."""
    return {(m.device, m.counter): m.sealed for m in store.page(0, 1 << 40, 1 << 20)}


def filled(directory: Path, count: int, *, used_only: int = 0) -> dict[tuple[bytes, int], bytes]:
    """An outbox of that many messages in custody, closed; more were there and have left."""
    store = Store(directory)
    store.commit(Work([offered(c) for c in range(1, used_only + 1)]))
    store.commit(Work(taken=list(range(1, used_only + 1))))
    for start in range(0, count, 50):
        numbers = range(used_only + 1 + start, used_only + 1 + min(start + 50, count))
        store.commit(Work([offered(c, (DEVICE, OTHER)[c % 2], size=40 + c % 700) for c in numbers]))
    store.commit(Work(trust={DEVICE: TrustRow(DEVICE, "PredictiveTrust", 5.0, '{"a": 1}')}))
    before = held(store)
    store.close()
    assert len(before) == count
    return before


# Transactions.


def test_what_is_committed_is_there_after_a_restart_and_its_counter_is_used_for_ever(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.commit(Work([offered(1), offered(2), offered(1)])).committed
    assert [getattr(one, "id", one) for one in first] == [1, 2, CustodyStatus.ALREADY]
    store.close()
    store = Store(tmp_path)
    assert held(store) == {(DEVICE, c): offered(c).sealed for c in (1, 2)}
    trust = TrustRow(DEVICE, "PredictiveTrust", 2.0, "{}")
    store.commit(Work(taken=[1, 2], trust={DEVICE: trust}))
    store.close()
    store = Store(tmp_path)
    assert held(store) == {}
    assert store.trust() == [trust]
    assert store.commit(Work([offered(2)])).committed == [CustodyStatus.ALREADY]
    assert store.commit(Work([offered(2, epoch=1)])).committed != [CustodyStatus.ALREADY]
    assert store.used() == {(DEVICE, 0): [1, 2], (DEVICE, 1): [2, 2]}
    store.close()


def test_ids_rise_even_when_the_table_was_empty_in_between() -> None:
    store = Store()
    ids = []
    for counter in range(1, 5):
        (message,) = store.commit(Work([offered(counter)])).committed
        assert isinstance(message, Message)
        ids.append(message.id)
        store.commit(Work(taken=[message.id]))
    assert ids == [1, 2, 3, 4]


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from([DEVICE, OTHER]), st.integers(0, 40)), max_size=8),
            st.lists(st.integers(1, 60), max_size=6),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_transactions_is_what_a_simple_model_says(
    steps: list[tuple[list[tuple[bytes, int]], list[int]]],
) -> None:
    store, model, seen, following = Store(), dict[int, tuple[bytes, int]](), set[tuple[bytes, int]](), 1
    for arrivals, taken in steps:
        done = store.commit(Work([offered(c, device) for device, c in arrivals], list(taken)))
        for name, result in zip(arrivals, done.committed, strict=True):
            assert (result is CustodyStatus.ALREADY) == (name in seen)
            if name not in seen:
                model[following] = name
                following += 1
            seen.add(name)
        for one in taken:
            model.pop(one, None)
        assert {m.id: (m.device, m.counter) for m in store.page(0, 1 << 40, 999)} == model
        assert store.last() == following - 1
    store.close()


def test_another_process_cannot_use_the_same_outbox(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(OutboxError, match="another gateway"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


# A disk without room.


def limited(store: Store, pages: int) -> None:
    store._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_database_refuses_what_is_new_loses_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    limited(store, 12)
    kept: dict[tuple[bytes, int], bytes] = {}
    for counter in range(1, 60):
        done = store.commit(Work([offered(counter, size=1000)]))
        if isinstance(done.committed[0], Message):
            kept[DEVICE, counter] = offered(counter, size=1000).sealed
        else:
            assert done.committed == [CustodyStatus.FULL]
            assert done.problem
    assert 0 < len(kept) < 59
    assert held(store) == kept
    assert store.used()[DEVICE, 0] == [1, len(kept)]  # what was refused may come again
    # Room comes back by what leaves, in the same transaction as something new.
    ids = [m.id for m in store.page(0, 1 << 40, 8)]
    done = store.commit(Work([offered(100)], ids))
    assert done.kept
    assert isinstance(done.committed[0], Message)
    store.close()
    store = Store(tmp_path)
    assert len(held(store)) == len(kept) - len(ids) + 1
    store.close()


def test_when_there_is_room_for_nothing_more_what_was_delivered_still_leaves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    limited(store, 12)
    while isinstance(store.commit(Work([offered(store.last() + 1, size=1000)])).committed[0], Message):
        pass
    many = [offered(c, size=1000) for c in range(500, 600)]
    done = store.commit(Work(many, [1, 2]))
    assert done.kept
    assert done.committed == [CustodyStatus.FULL] * 100
    assert {m.id for m in store.page(0, 1 << 40, 99)}.isdisjoint({1, 2})
    store.close()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_file_that_cannot_grow_is_a_full_disk(tmp_path: Path) -> None:
    """The write itself fails, as on a full disk or beyond a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Store(tmp_path)
    assert isinstance(store.commit(Work([offered(1)])).committed[0], Message)
    log = (tmp_path / "outbox.sqlite-wal").stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log, hard))
        done = store.commit(Work([offered(2, size=1200), offered(3)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert done.committed == [CustodyStatus.FULL] * 2
    assert isinstance(store.commit(Work([offered(2)])).committed[0], Message)
    store.close()
    store = Store(tmp_path)
    assert sorted(held(store)) == [(DEVICE, 1), (DEVICE, 2)]
    store.close()


# Killed.

_WRITER = """
import sys
from pathlib import Path
from gateway.outbox import Offered, Store
from gateway.outbox.store import Work
store, counter = Store(Path(sys.argv[1])), 0
while True:
    batch = [Offered(b"device-1", 0, counter + i, 0x40, 1.0, bytes(90)) for i in range(1, 8)]
    store.commit(Work(batch, [store.last() - 20] if counter % 3 else []))
    counter += 7
    print(counter, flush=True)
"""


def test_a_killed_process_leaves_all_that_it_said_it_has_committed(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    said = 0
    while said < 700:
        said = int(writer.stdout.readline())
    writer.kill()
    rest = writer.stdout.read().split()
    writer.wait()
    said = max([said, *map(int, rest[:-1])])
    store = Store(tmp_path)
    (flat,) = store.used().values()
    assert flat[0] == 1
    assert flat[1] >= said
    store.close()


# Damage.


def damage(path: Path, where: int, length: int, seed: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(where)
        file.write(random.Random(seed).randbytes(length))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: damage(path, 0, 100),
        lambda path: damage(path, 0, 4 * PAGE),
        lambda path: damage(path, 40, 8),
        lambda path: path.write_bytes(b"not a database at all" * 500 + path.read_bytes()[10500:]),
        lambda path: os.truncate(path, path.stat().st_size - 3 * PAGE - 17),
    ],
    ids=["header", "first-pages", "header-fields", "text-over-it", "cut-off"],
)
def test_a_damaged_file_gives_up_all_that_is_readable_and_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    before = filled(tmp_path, 400, used_only=100)
    path = tmp_path / "outbox.sqlite"
    spoil(path)
    content = path.read_bytes()
    readable = salvage(path, 256)
    store = Store(tmp_path)
    after = held(store)
    # Messages that had left may come back: the edge server knows them.
    assert {key for key in after if key[1] > 100} <= before.keys()
    assert all(before[key] == after[key] for key in before.keys() & after.keys())
    assert len(after) == len(readable.messages)
    lost_pages = 5
    assert len(before.keys() & after.keys()) >= 400 - lost_pages * PAGE // 100
    for device, counter in after:
        assert counter in Intervals.from_list(store.used()[device, 0])
    assert store.commit(Work([offered(9999)])).committed != [CustodyStatus.FULL]
    store.close()
    assert (tmp_path / "outbox.sqlite.damaged-1").read_bytes() == content
    assert "was damaged" in caplog.text
    assert "outbox.sqlite.damaged-1" in caplog.text
    Store(tmp_path).close()  # and now it is whole
    assert not (tmp_path / "outbox.sqlite.damaged-2").exists()


@given(st.integers(0, 2**32), st.integers(1, 6))
@settings(max_examples=12, deadline=None)
def test_every_message_in_an_untouched_page_survives(
    tmp_path_factory: pytest.TempPathFactory, seed: int, many: int
) -> None:
    directory = tmp_path_factory.mktemp("box")
    before = filled(directory, 120)
    path = directory / "outbox.sqlite"
    pages = path.stat().st_size // PAGE
    rng = random.Random(seed)
    spoilt = {rng.randrange(pages) for _ in range(many)}
    whole = path.read_bytes()
    for page in spoilt:
        damage(path, page * PAGE, PAGE, seed + page)
    readable = {
        key
        for key, sealed in before.items()
        if any(sealed in whole[p * PAGE : (p + 1) * PAGE] for p in range(pages) if p not in spoilt)
    }
    store = Store(directory)
    assert readable <= held(store).keys() <= before.keys()
    store.close()
    shutil.rmtree(directory)


def test_one_flipped_bit_in_a_message_is_noticed_and_costs_only_that_message(tmp_path: Path) -> None:
    before = filled(tmp_path, 60)
    path = tmp_path / "outbox.sqlite"
    name = next(iter(before))
    at = path.read_bytes().index(before[name])
    damage(path, at + 3, 1, seed=7)
    store = Store(tmp_path)
    assert held(store) == {key: sealed for key, sealed in before.items() if key != name}
    store.close()


def test_what_is_only_in_the_log_is_read_too(tmp_path: Path) -> None:
    """As after a power cut: the log was not yet copied into the database, which is then damaged."""
    store = Store(tmp_path / "live")
    store._db.execute("PRAGMA wal_autocheckpoint = 0")
    for counter in range(1, 41):
        store.commit(Work([offered(counter)]))
    (tmp_path / "cut").mkdir()
    for part in ("outbox.sqlite", "outbox.sqlite-wal"):
        shutil.copy(tmp_path / "live" / part, tmp_path / "cut" / part)
    store.close()
    (tmp_path / "cut" / "outbox.sqlite").write_bytes(b"\0" * 100)
    store = Store(tmp_path / "cut")
    assert sorted(held(store)) == [(DEVICE, counter) for counter in range(1, 41)]
    assert store.used() == {(DEVICE, 0): [1, 40]}
    store.close()


@pytest.mark.parametrize("step", ["replace", "unlink", "link", "fsync"])
def test_a_rebuild_that_is_cut_short_is_finished_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    filled(tmp_path, 200)
    damage(tmp_path / "outbox.sqlite", 0, 100)
    expected = len(salvage(tmp_path / "outbox.sqlite", 256).messages)

    class Cut(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        if step == "replace":
            patch.setattr(Path, "replace", cut)
        elif step == "unlink":
            unlink = Path.unlink
            patch.setattr(
                Path, "unlink", lambda path, **k: cut() if "-wal" in path.name else unlink(path, **k)
            )
        else:
            patch.setattr(db.os, step, cut)
        with pytest.raises(Cut):
            Store(tmp_path)
    store = Store(tmp_path)
    assert len(held(store)) == expected
    store.close()


@given(st.binary(max_size=3 * PAGE))
@settings(max_examples=60, deadline=None)
def test_salvage_of_arbitrary_bytes_never_raises_and_finds_nothing(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x"
        # A leaf page's first octet, so that its cells are looked at.
        path.write_bytes((b"\x0d\0\0\0\x20" + content).ljust(PAGE, b"\x81"))
        found = salvage(path, 256)
    assert (found.messages, found.used, found.trust) == ({}, {}, {})


@given(
    st.integers(1, 2**62),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=1300),
    st.integers(0, 6),
)
def test_rows_are_read_back_and_any_change_of_a_column_is_noticed(
    number: int, device: bytes, epoch: int, counter: int, at: float, octets: bytes, column: int
) -> None:
    message = Message(number, device, epoch, counter, 0x44, at, octets)
    row = message_row(message)
    assert message_of(row) == message
    if column:  # the place itself is not under the checksum: a rebuilt file gives places anew
        other = list(row)
        other[column] = (0, b"8 octets", epoch ^ 1, counter ^ 1, 0x45, at + 1.0 + abs(at), octets + b"x")[
            column
        ]
        assert message_of(other) is None or other == list(row)
    flat = sorted({epoch, counter})
    spans = [value for one in flat for value in (one, one)]
    assert used_of(used_row(device, epoch, spans)) == (device, epoch, spans)
    assert used_of((*used_row(device, epoch, spans)[:3], 0x1_0000_0000)) is None
    trust = TrustRow(device, "PaperTrust", at, "{}")
    assert trust_of(trust_row(trust)) == trust
    assert trust_of((*trust_row(trust)[:3], "{ }", trust_row(trust)[4])) is None


@given(st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=4), st.integers(1, 12))
def test_the_union_of_used_counters_holds_all_of_them_within_its_bound(
    sets: list[list[int]], limit: int
) -> None:
    flats, exact = [], set[int]()
    for counters in sets:
        intervals = Intervals()
        for counter in counters:
            intervals.add(counter)
        exact |= set(counters)
        flats.append(intervals.to_list())
    joined = Intervals.from_list(union(flats, limit))
    assert all(counter in joined for counter in exact)
    assert len(list(joined)) <= limit
    if len(list(Intervals.from_list(union(flats, 1000)))) <= limit:
        assert len(joined) == len(exact)


# Releases.


def to_2(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE messages ADD COLUMN note TEXT NOT NULL DEFAULT 'old'")


def test_each_step_to_a_newer_version_leaves_a_backup_of_before(tmp_path: Path) -> None:
    before = filled(tmp_path, 30)
    path = tmp_path / "outbox.sqlite"
    steps = {1: to_2, 2: lambda c: c.execute("CREATE TABLE more (x)")}
    connection = db.open_database(path, limit=256, version=3, steps=steps)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert connection.execute("SELECT COUNT(*), MIN(note) FROM messages").fetchone() == (30, "old")
    connection.close()
    for version in (1, 2):
        backup = tmp_path / f"outbox.sqlite.v{version}.backup"
        assert backup.stat().st_mode & 0o777 == 0o600
        with sqlite3.connect(backup) as copy:
            assert copy.execute("PRAGMA user_version").fetchone() == (version,)
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        copy.close()
    # The way back: the backup is an outbox of the release before.
    shutil.copy(tmp_path / "outbox.sqlite.v1.backup", path)
    store = Store(tmp_path)
    assert held(store) == before
    store.close()


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    before = filled(tmp_path, 30)

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM messages")
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(OutboxError, match="disk I/O error"):
        db.open_database(tmp_path / "outbox.sqlite", limit=256, version=2, steps={1: half})
    store = Store(tmp_path)
    assert held(store) == before
    store.close()


def test_a_newer_version_is_refused_and_the_way_back_named(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    db.open_database(tmp_path / "outbox.sqlite", limit=256, version=2, steps={1: to_2}).close()
    with pytest.raises(OutboxError, match=r"version 2[\s\S]*outbox\.sqlite\.v1\.backup"):
        Store(tmp_path)


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("PRAGMA user_version = 7")
    other.close()
    content = path.read_bytes()
    with pytest.raises(OutboxError, match="another program"):
        Store(tmp_path)
    assert path.read_bytes()[100:] == content[100:]
    assert not list(tmp_path.glob("*.damaged-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_of_somebody_else_is_refused_with_the_remedy(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (tmp_path / "outbox.sqlite").chmod(0)
    with pytest.raises(OutboxError, match="chown"):
        Store(tmp_path)


# Its clock.


def test_the_clock_goes_on_over_restarts_stands_still_while_the_machine_is_off_and_never_falls() -> None:
    now = [100.0]
    first = Clock(None, boot="a", now=lambda: now[0])
    assert first() == 0.0
    now[0] = 150.0
    saved = first.state()
    now[0] = 160.0
    assert Clock(saved, boot="a", now=lambda: now[0])() == 60.0
    now[0] = 5.0
    assert Clock(saved, boot="b", now=lambda: now[0])() == 50.0
    assert Clock(saved, boot="", now=lambda: now[0])() == 50.0
    assert Clock(saved, boot="a", now=lambda: now[0])() == 50.0  # the system's own clock fell: not ours


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=20))
def test_no_sequence_of_restarts_and_reboots_makes_the_clock_fall(steps: list[tuple[float, bool]]) -> None:
    boot, last = 0, 0.0
    now = [0.0]
    clock = Clock(None, boot="0", now=lambda: now[0])
    for passed, reboot in steps:
        now[0] += passed
        assert clock() >= last
        last = clock()
        saved = clock.state()
        if reboot:
            boot, now[0] = boot + 1, 0.0
        clock = Clock(saved, boot=str(boot), now=lambda: now[0])
        assert clock() >= last - 1e-6
