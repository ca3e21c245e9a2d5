"""The pool of early fragments, the tally behind it, the accounts: each keeps its bound and its promise."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Account, Budget, Limits
from gateway.early import OVERHEAD, EarlyPool
from gateway.ledger import FailureLedger
from gateway.reassembly import Datagram
from tests.gateway.kit import Node, sealed_bytes
from wire.message import FirstSlice

_SOURCES = [bytes([n]) * 8 for n in range(4)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(_SOURCES),
            st.integers(0, 3),
            st.integers(0, 5),
            st.binary(min_size=1, max_size=99),
            st.integers(0, 300),
        )
    )
)
def test_the_pool_never_exceeds_its_capacity_nor_a_source_its_share(
    arrivals: list[tuple[bytes, int, int, bytes, int]],
) -> None:
    pool = EarlyPool(400)
    for source, tag, offset, data, share in arrivals:
        kept, _ = pool.add(source, 200, tag, offset * 8, data, 0.0, share)
        held = sum(len(key[3]) + OVERHEAD for key in pool._by_source.get(source, {}))
        assert pool.used <= 400
        assert held <= share or not kept
        assert not kept or (offset * 8, data) in [
            (key[2], key[3]) for key in pool._by_source[source] if key[1] == tag
        ]
    taken = [pool.take(source, 200, tag) for source in _SOURCES for tag in range(4)]
    assert pool.used == 0
    assert all(isinstance(part, list) for part in taken)


def test_a_flooder_pushes_out_itself_before_anyone_else() -> None:
    pool = EarlyPool(4096)
    pool.add(_SOURCES[0], 300, 1, 96, b"genuine" * 10, 0.0, 4096)
    for n in range(1000):
        pool.add(_SOURCES[1], 300, 2, 96, n.to_bytes(90, "big"), 0.0, 4096)
    assert pool.take(_SOURCES[0], 300, 1) == [(96, b"genuine" * 10)]


def test_copies_are_kept_once_and_others_at_the_same_place_beside_them() -> None:
    pool = EarlyPool()
    assert pool.add(_SOURCES[0], 300, 1, 96, b"genuine", 0.0, 4096)[0]
    assert not pool.add(_SOURCES[0], 300, 1, 96, b"genuine", 0.0, 4096)[0]
    assert pool.add(_SOURCES[0], 300, 1, 96, b"forgery", 0.0, 4096)[0]
    assert pool.take(_SOURCES[0], 300, 1) == [(96, b"genuine"), (96, b"forgery")]


def test_early_fragments_expire() -> None:
    pool = EarlyPool(timeout=10.0)
    pool.add(_SOURCES[0], 300, 1, 96, b"old", 0.0, 4096)
    pool.add(_SOURCES[0], 300, 1, 192, b"new", 5.0, 4096)
    assert pool.expire(10.0) == 1
    assert pool.take(_SOURCES[0], 300, 1) == [(192, b"new")]


def test_failures_shrink_the_share_of_the_pool_and_are_forgotten() -> None:
    ledger = FailureLedger(half_life=10.0)
    assert ledger.share(_SOURCES[0], 4096, 0.0) == 4096
    for _ in range(1000):
        ledger.fail(_SOURCES[0], 0.0)
    assert ledger.share(_SOURCES[0], 4096, 0.0) == 256
    assert ledger.share(_SOURCES[1], 4096, 0.0) == 4096
    assert ledger.share(_SOURCES[0], 4096, 200.0) > 4000


def test_the_tally_is_bounded() -> None:
    ledger = FailureLedger(bound=16)
    for n in range(1000):
        ledger.fail(n.to_bytes(8, "big"), 0.0)
    assert len(ledger._scores) == 16
    assert ledger.score((999).to_bytes(8, "big"), 0.0) == 1.0


def _datagram(counter: int, length: int) -> Datagram:
    slices = Node().slices(counter, sealed_bytes(length))
    first = FirstSlice.parse(slices[0], sum(map(len, slices)))
    return Datagram(first, 0, b"", None, 0.0, retry=False)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 200), st.integers(90, 1100), st.integers(0, 4000)),
        max_size=40,
    )
)
def test_accounts_stay_within_reserve_and_allowance_and_evict_only_older_ones_of_their_own(
    requests: list[tuple[int, int, int, int]],
) -> None:
    limits = Limits(memory=3 * 2560 + 4096 + 3000)
    budget = Budget(limits, 3)
    accounts = [Account() for _ in range(3)]
    for who, counter, length, allowance in requests:
        account = accounts[who]
        datagram = _datagram(counter, length)
        if (datagram.size, datagram.tag) in account.open:
            continue
        others = [list(other.open) for other in accounts if other is not account]
        before = dict(account.open)
        evicted = budget.reserve(account, datagram, allowance)
        assert others == [list(other.open) for other in accounts if other is not account]
        if evicted is None:
            assert account.open == before
        else:
            assert all(old.counter < counter for old in evicted)
            assert set(account.open.values()) == (set(before.values()) | {datagram}) - set(evicted)
        assert account.used == sum(d.size for d in account.open.values())
        assert budget.used == sum(a.used for a in accounts) <= limits.memory - limits.early_pool
        assert budget.shared_used == sum(max(0, a.used - limits.reserve) for a in accounts) <= budget.shared


def test_a_smaller_remainder_is_taken_back_from_the_borrowers() -> None:
    budget = Budget(Limits(memory=2560 + 4096 + 2560), 1)
    account = Account()
    for counter in (1, 2, 3):
        assert budget.reserve(account, _datagram(counter, 1100), 2560) == []
    budget.resize(2)
    budget.return_borrowed(account)
    assert budget.shared_used == 0
    assert [d.counter for d in account.open.values()] == [2, 3]
