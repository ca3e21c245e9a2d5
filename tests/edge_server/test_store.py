"""The store: an exact set of counters that survives restarts, and a bounded number of answers."""

import sqlite3
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.errors import EdgeError
from edge_server.store import FILE, Store

A, B = b"a" * 8, b"b" * 8


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from((A, B)), st.integers(0, 3), st.integers(0, 25)), unique=True))
def test_the_set_is_exact_now_and_after_a_restart(tmp_path_factory, used) -> None:
    directory = tmp_path_factory.mktemp("state")
    with Store(directory) as store:
        for device, epoch, counter in used:
            assert not store.used(device, epoch, counter)
            store.commit([(device, epoch, counter, b"x")])
    with Store(directory) as store:
        everything = {(d, e, c) for d in (A, B) for e in range(4) for c in range(27)}
        assert {key for key in everything if store.used(*key)} == set(used)
    with sqlite3.connect(directory / FILE) as db:
        rows = db.execute("SELECT device, epoch, low, high FROM used ORDER BY device, epoch, low").fetchall()
    for (d1, e1, _, high), (d2, e2, low, _) in pairwise(rows):
        assert (d1, e1) != (d2, e2) or high + 1 < low


batches = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True), max_size=14)


@settings(deadline=None, max_examples=60)
@given(batches, st.integers(1, 5))
def test_whoever_scatters_counters_makes_a_bounded_set_and_nothing_is_answered_twice(
    tmp_path_factory, batches, most
) -> None:
    """What a set that is joined forgets is only ever taken for used, never for new; also after a restart."""
    directory = tmp_path_factory.mktemp("state")
    answered: list[int] = []
    with Store(directory, intervals=most) as store:
        for number, batch in enumerate(batches):
            new = [counter for counter in batch if not store.used(A, 1, counter)]
            store.commit([(A, 1, counter, b"x") for counter in new])
            answered += new
            store.commit([(B, 1, number, b"x")])
            assert all(store.used(A, 1, counter) for counter in answered)
            assert len(store.record().get((A, 1), ())) <= 2 * most
        before = {counter for counter in range(42) if store.used(A, 1, counter)}
    with Store(directory, intervals=most) as store:
        after = {counter for counter in range(42) if store.used(A, 1, counter)}
        assert set(answered) <= after <= before
        assert len(store.record().get((A, 1), ())) <= 2 * most
        assert store.record().get((B, 1), [0, -1]) == [0, len(batches) - 1]
    assert len(set(answered)) == len(answered)


def test_a_set_of_before_it_was_bounded_is_joined_at_its_start(tmp_path) -> None:
    with Store(tmp_path) as store:
        store.commit([(A, 1, counter, b"x") for counter in range(0, 40, 2)])
    with Store(tmp_path, intervals=5) as store:
        assert store.record()[(A, 1)] == [0, 30, 32, 32, 34, 34, 36, 36, 38, 38]
        assert store.used(A, 1, 7)
        store.commit([(A, 1, 33, b"x"), (A, 1, 50, b"x")])
        record = store.record()
        assert record[(A, 1)] == [0, 30, 32, 34, 36, 36, 38, 38, 50, 50]
    with Store(tmp_path, intervals=5) as store:
        assert store.record() == record


def test_answers_are_repeated_and_old_ones_let_go() -> None:
    with Store(keep=4) as store:
        store.commit([(A, 0, c, bytes((c,))) for c in range(1, 11)])
        store.commit([(B, 0, 1, b"b")])
        assert [store.answer(A, 0, c) for c in (6, 7, 10)] == [b"", b"\x07", b"\x0a"]
        assert store.answer(B, 0, 1) == b"b"
        assert store.stored_answers() == 5
        assert store.used(A, 0, 1)


def test_a_batch_is_committed_whole_or_not_at_all(tmp_path) -> None:
    with Store(tmp_path) as store:
        store.commit([(A, 0, 1, b"first")])
        with pytest.raises(sqlite3.IntegrityError):
            store.commit([(A, 0, 2, b"second"), (A, 0, 1, b"again")])
        assert not store.used(A, 0, 2)
        assert store.answer(A, 0, 1) == b"first"
        store.commit([(A, 0, 2, b"second")])
        assert store.used(A, 0, 2)


def test_two_servers_do_not_share_a_directory(tmp_path) -> None:
    with Store(tmp_path), pytest.raises(EdgeError, match="another edge server") as error:
        Store(tmp_path)
    assert "--state" in str(error.value)
    Store(tmp_path).close()


def test_a_foreign_or_newer_database_is_refused(tmp_path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, but long enough to look at" * 40)
    with pytest.raises(EdgeError, match="not an edge server's state"):
        Store(tmp_path)
    (tmp_path / FILE).unlink()
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(EdgeError, match="version 9"):
        Store(tmp_path)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeError, match="cannot be used"):
        Store(tmp_path / "file" / "state")
