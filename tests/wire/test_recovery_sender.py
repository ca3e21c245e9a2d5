"""The sending end of RFC 8931: what it makes of losses, of acknowledgements, and of forged ones."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from tests.wire import captures
from wire.recovery import RecoverableDatagram
from wire.recovery_sender import MAX_NONSENSE, MAX_SILENCE, Next, Progress, RecoverySender
from wire.rfrag import FULL_BITMAP, NULL_BITMAP, SEQUENCES


@pytest.mark.parametrize("case", claim("recovery.json", "wire"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    sender = RecoverySender(case["fragments"], probe=case["again"])
    for step in case["steps"]:
        assert numbers(sender.burst()) == step["burst"]
        for hint in step["hints"]:
            sender.on_ack(int(hint, 16))
        sender.settle()
    assert sender.burst() == []
    assert sender.progress.value == case["end"]


def bitmap(*sequences: int) -> int:
    return sum(1 << 31 - sequence for sequence in sequences)


def numbers(burst: list[Next]) -> list[int]:
    """The sequences of a burst, of which the last one asks."""
    assert [fragment.ack_request for fragment in burst] == [False] * (len(burst) - 1) + [True]
    return [fragment.sequence for fragment in burst]


def heard(sender: RecoverySender, *bitmaps: int) -> None:
    """One wait, in which these come."""
    for one in bitmaps:
        sender.on_ack(one)
    sender.settle()


def test_only_what_is_missing_is_sent_again() -> None:
    sender = RecoverySender(5)
    assert numbers(sender.burst()) == [0, 1, 2, 3, 4]
    heard(sender, bitmap(0, 2, 4))
    assert numbers(sender.burst()) == [1, 3]
    heard(sender, bitmap(0, 1, 2, 4))
    assert numbers(sender.burst()) == [3]
    heard(sender, FULL_BITMAP)
    assert sender.progress is Progress.DONE
    assert sender.burst() == []


def test_all_bits_one_by_one_are_done_too() -> None:
    sender = RecoverySender(3)
    sender.burst()
    heard(sender, bitmap(0, 1, 2))
    assert sender.progress is Progress.DONE


def test_a_window_holds_what_is_missing_and_what_is_new() -> None:
    sender = RecoverySender(9, window=4)
    assert numbers(sender.burst()) == [0, 1, 2, 3]
    heard(sender, bitmap(0, 1, 3))
    assert numbers(sender.burst()) == [2, 4, 5, 6]
    heard(sender, bitmap(0, 1, 2, 3, 4, 5, 6))
    assert numbers(sender.burst()) == [7, 8]


def test_silence_is_answered_by_more_and_more_and_longer_waits_until_it_falls_back() -> None:
    sender = RecoverySender(10)
    sender.burst()
    sizes, waits = [], []
    while sender.progress is Progress.UNDER_WAY:
        sender.settle()
        waits.append(sender.patience)
        sizes.append(len(sender.burst()))
    assert (sizes, waits) == ([1, 2, 4, 8, 10], [2, 4, 8, 8, 8])
    assert len(sizes) <= MAX_SILENCE
    assert sender.progress is Progress.FALLBACK


def test_an_abort_costs_one_fragment_and_many_end_it() -> None:
    sender = RecoverySender(5)
    sender.burst()
    heard(sender, NULL_BITMAP, NULL_BITMAP)
    assert numbers(sender.burst()) == [0]
    heard(sender, bitmap(0, 3))
    assert numbers(sender.burst()) == [1, 2, 4]
    for _ in range(MAX_NONSENSE + 1):
        assert sender.progress is Progress.UNDER_WAY
        heard(sender, NULL_BITMAP)
        sender.burst()
    assert sender.progress is Progress.FALLBACK


@pytest.mark.parametrize("others", [[0], [bitmap(0)], [bitmap(1), 0, bitmap(3)]])
def test_a_denial_beside_the_truth_makes_nothing_go_again(others: list[int]) -> None:
    for said in ([*others, bitmap(0, 1, 3)], [bitmap(0, 1, 3), *others]):
        sender = RecoverySender(4)
        sender.burst()
        heard(sender, *said)
        assert numbers(sender.burst()) == [2]


@pytest.mark.parametrize("nonsense", [bitmap(5), bitmap(0, 31), FULL_BITMAP, 0xFFFFFFFE])
def test_bits_of_what_was_not_sent_change_nothing(nonsense: int) -> None:
    sender = RecoverySender(9, window=5)
    sender.burst()
    assert not sender.on_ack(nonsense)
    assert sender.acknowledged == 0
    for _ in range(MAX_NONSENSE):
        sender.on_ack(nonsense)
    assert sender.progress is Progress.FALLBACK


def test_a_retry_asks_first() -> None:
    sender = RecoverySender(4, probe=True)
    assert numbers(sender.burst()) == [0]
    heard(sender, bitmap(0, 1, 3))
    assert numbers(sender.burst()) == [2]


@pytest.mark.parametrize(("fragments", "window"), [(0, 1), (33, 1), (1, 0), (1, 33)])
def test_sizes_that_no_bitmap_has(fragments: int, window: int) -> None:
    with pytest.raises(ValueError, match=r"expected 1\.\.32"):
        RecoverySender(fragments, window)


@settings(max_examples=200)
@given(
    fragments=st.integers(1, SEQUENCES),
    window=st.integers(1, SEQUENCES),
    loss=st.floats(0, 0.3),
    seed=st.integers(0, 10_000),
)
def test_over_a_lossy_link_it_ends_with_all_or_falls_back(
    fragments: int, window: int, loss: float, seed: int
) -> None:
    random_ = random.Random(seed)
    pieces = captures.rfrags(random_.randbytes(fragments * 8), tag=1, step=8)
    far = RecoverableDatagram()
    sender = RecoverySender(fragments, window)
    sent = 0
    while burst := sender.burst():
        answer = None
        for sequence, ack_request in burst:
            sent += 1
            if random_.random() >= loss:
                far.add(pieces[sequence])
                answer = far.ack_bitmap if ack_request else answer
        if answer is not None and random_.random() >= loss:
            sender.on_ack(answer)
        sender.settle()
    assert sent <= 3 * fragments + 4 + SEQUENCES
    assert sender.progress is not Progress.UNDER_WAY
    if sender.progress is Progress.DONE:
        assert far.complete
    if loss == 0:
        assert sender.progress is Progress.DONE
        assert sent == fragments


@settings(max_examples=200)
@given(
    fragments=st.integers(1, SEQUENCES),
    window=st.integers(1, SEQUENCES),
    hints=st.lists(
        st.one_of(st.none(), st.integers(0, FULL_BITMAP), st.sampled_from([NULL_BITMAP, FULL_BITMAP])),
        max_size=200,
    ),
)
def test_whatever_comes_back_the_cost_is_bounded(
    fragments: int, window: int, hints: list[int | None]
) -> None:
    """None: silence; after an even hint another comes. A forger decides when it ends, not what is sent."""
    sender = RecoverySender(fragments, window)
    sent = 0
    for hint in hints:
        under_way = sender.progress is Progress.UNDER_WAY
        burst = sender.burst()
        assert (burst != []) is under_way
        if burst:
            assert all(0 <= number < fragments for number in numbers(burst))
        sent += len(burst)
        if hint is not None:
            sender.on_ack(hint)
        if hint is None or hint & 1:
            sender.settle()
        assert 0 <= sender.acknowledged < 1 << fragments
    assert sent <= 3 * fragments + 4 + SEQUENCES
