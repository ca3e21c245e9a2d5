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
            if sender.on_ack(int(hint, 16)):
                break
        else:
            sender.on_silence()
    assert sender.burst() == []
    assert sender.progress.value == case["end"]


def bitmap(*sequences: int) -> int:
    return sum(1 << 31 - sequence for sequence in sequences)


def numbers(burst: list[Next]) -> list[int]:
    """The sequences of a burst, of which the last one asks."""
    assert [fragment.ack_request for fragment in burst] == [False] * (len(burst) - 1) + [True]
    return [fragment.sequence for fragment in burst]


def test_only_what_is_missing_is_sent_again() -> None:
    sender = RecoverySender(5)
    assert numbers(sender.burst()) == [0, 1, 2, 3, 4]
    assert sender.on_ack(bitmap(0, 2, 4))
    assert numbers(sender.burst()) == [1, 3]
    assert not sender.on_ack(bitmap(0, 2, 4))  # a late copy says nothing new
    assert sender.on_ack(bitmap(0, 1, 2, 4))
    assert numbers(sender.burst()) == [3]
    assert sender.on_ack(FULL_BITMAP)
    assert sender.progress is Progress.DONE
    assert sender.burst() == []


def test_all_bits_one_by_one_are_done_too() -> None:
    sender = RecoverySender(3)
    sender.burst()
    sender.on_ack(bitmap(0, 1, 2))
    assert sender.progress is Progress.DONE


def test_a_window_holds_what_is_missing_and_what_is_new() -> None:
    sender = RecoverySender(9, window=4)
    assert numbers(sender.burst()) == [0, 1, 2, 3]
    sender.on_ack(bitmap(0, 1, 3))
    assert numbers(sender.burst()) == [2, 4, 5, 6]
    sender.on_ack(bitmap(0, 1, 2, 3, 4, 5, 6))
    assert numbers(sender.burst()) == [7, 8]


def test_silence_is_answered_by_more_and_more_until_it_falls_back() -> None:
    sender = RecoverySender(13)
    sender.burst()
    sizes = []
    while sender.progress is Progress.UNDER_WAY:
        sender.on_silence()
        sizes.append(len(sender.burst()))
    assert sizes == [1, 2, 4, 8, 13, 13, 0]
    assert len(sizes) == MAX_SILENCE + 1
    assert sender.progress is Progress.FALLBACK


def test_an_abort_costs_one_fragment_and_many_end_it() -> None:
    sender = RecoverySender(5)
    sender.burst()
    assert sender.on_ack(NULL_BITMAP)
    assert numbers(sender.burst()) == [0]
    sender.on_ack(bitmap(0, 3))
    assert numbers(sender.burst()) == [1, 2, 4]
    for _ in range(MAX_NONSENSE + 1):
        assert sender.progress is Progress.UNDER_WAY
        sender.on_ack(NULL_BITMAP)
    assert sender.progress is Progress.FALLBACK


@pytest.mark.parametrize("nonsense", [bitmap(5), bitmap(0, 31), FULL_BITMAP, 0xFFFFFFFE])
def test_bits_of_what_was_not_sent_change_nothing(nonsense: int) -> None:
    sender = RecoverySender(9, window=5)
    sender.burst()
    assert not sender.on_ack(nonsense)
    assert sender.acknowledged == 0
    for _ in range(MAX_NONSENSE):
        sender.on_ack(nonsense)
    assert sender.progress is Progress.FALLBACK


def test_a_forged_completion_is_taken_back_and_can_be_doubted() -> None:
    sender = RecoverySender(4)
    sender.burst()
    sender.on_ack(FULL_BITMAP)
    sender.on_ack(bitmap(0, 2))
    assert numbers(sender.burst()) == [1, 3]
    sender.on_ack(FULL_BITMAP)
    sender.probe()
    assert numbers(sender.burst()) == [0]
    sender.on_ack(bitmap(0, 2, 3))
    assert numbers(sender.burst()) == [1]


def test_a_retry_asks_first() -> None:
    sender = RecoverySender(4, probe=True)
    assert numbers(sender.burst()) == [0]
    sender.on_ack(bitmap(0, 1, 3))
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
        heard = None
        for sequence, ack_request in burst:
            sent += 1
            if random_.random() >= loss:
                far.add(pieces[sequence])
                heard = far.ack_bitmap if ack_request else heard
        if heard is not None and random_.random() >= loss:
            sender.on_ack(heard)
        else:
            sender.on_silence()
    assert sent <= 5 * fragments + 8 + SEQUENCES
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
    """None: silence. A forger decides when it ends, not how much is sent, nor what."""
    sender = RecoverySender(fragments, window)
    sent = 0
    for hint in hints:
        under_way = sender.progress is Progress.UNDER_WAY
        burst = sender.burst()
        assert (burst != []) is under_way
        if burst:
            assert all(0 <= number < fragments for number in numbers(burst))
        sent += len(burst)
        if hint is None:
            sender.on_silence()
        else:
            sender.on_ack(hint)
        assert 0 <= sender.acknowledged < 1 << fragments
    assert sent <= 4 * fragments + 8 + SEQUENCES
