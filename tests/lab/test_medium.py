import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.sim.loss import GilbertElliott, LossModel
from lab.sim.medium import MAX_RETRIES, Addressed, Medium

A, B, C = b"A" * 8, b"B" * 8, b"C" * 8
CLEAN = LossModel(good_loss=0.0, bad_loss=0.0)
DEAF = LossModel(good_loss=1.0, bad_loss=1.0)


def to(destination, source, ack=True):
    return Addressed(destination, source, ack)


def run(medium, until=1e6):
    heard = []
    while medium.due is not None and medium.due <= until:
        heard += medium.step(medium.due)
    return heard


def test_a_frame_takes_its_bytes_at_the_rate_of_the_moment_and_reaches_all_others():
    medium = Medium(lambda t: 80.0 if t < 1 else 8.0, CLEAN, seed=1)
    for node in "abc":
        medium.join(node, 0.0)
    medium.offer("a", bytes(94), to(None, A, ack=False), 0.0)
    (first,) = run(medium)
    assert first.receivers == ("b", "c")
    assert 0.010 <= first.at <= 0.010 + 8 * 80 / 80_000
    medium.offer("a", bytes(94), to(None, A, ack=False), 1.0)
    (second,) = run(medium)
    assert 1.1 <= second.at <= 1.1 + 8 * 80 / 8_000


def test_a_frame_nobody_acknowledges_is_tried_four_times_and_each_try_takes_airtime():
    medium = Medium(lambda _: 100.0, DEAF, seed=1)
    medium.join("a", 0.0)
    medium.join("b", 0.0)
    medium.offer("b", b"x", to(None, B, ack=False), 0.0)  # b's address gets known
    medium.offer("a", bytes(119), to(B, A), 0.0)
    heard = [h for h in run(medium) if h.flight.node == "a"]
    assert len(heard) == 1 + MAX_RETRIES
    assert [h.last for h in heard] == [False, False, False, True]
    assert heard[-1].flight.delivered is False
    assert heard[-1].at - heard[0].at >= 3 * 125 * 8 / 100_000
    assert medium.counters["undelivered"] == 1


def test_a_lossy_link_delivers_almost_all_acknowledged_frames_and_hands_each_over_once():
    medium = Medium(lambda _: 250.0, LossModel(good_loss=0.3, bad_loss=0.3), seed=5, queue=2000)
    for node in "abc":
        medium.join(node, 0.0)
    medium.offer("b", b"hello", to(A, B, ack=False), 0.0)
    run(medium)
    for _ in range(1000):
        medium.offer("a", bytes(50), to(B, A), 1.0)
    heard = run(medium)
    got = [h.flight.number for h in heard if "b" in h.receivers]
    assert len(got) == len(set(got)) >= 980
    overheard = [h.flight.number for h in heard if "c" in h.receivers]
    assert len(overheard) == len(set(overheard))
    assert medium.counters["retries"] > 250


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2), st.integers(1, 127)), max_size=60),
    st.integers(0, 99),
)
def test_one_frame_at_a_time_each_node_in_order_and_none_forgotten(offers, seed):
    medium = Medium(lambda _: 50.0, LossModel(), seed=seed)
    for node in "abc":
        medium.join(node, 0.0)
    heard, numbers = [], {"a": [], "b": [], "c": []}
    for node, at, size in sorted(offers, key=lambda o: o[1]):
        heard += run(medium, at)
        assert medium.offer(node, bytes(size), to(None, None, ack=False), at)
        numbers[node].append(medium._flights)
    heard += run(medium)
    assert medium.due is None
    assert medium.waiting == 0
    for node, sent in numbers.items():
        assert [h.flight.number for h in heard if h.flight.node == node] == sent
    ends = [(h.at - (6 + len(h.flight.frame)) * 8 / 50_000, h.at) for h in heard]
    assert all(start >= end - 1e-9 for (_, end), (start, _) in pairwise(ends))


def test_what_was_heard_stays_as_it_was_however_late_it_is_asked_for():
    medium = Medium(lambda _: 100.0, LossModel(good_loss=0.6, bad_loss=0.6), seed=2)
    for node in "ab":
        medium.join(node, 0.0)
    medium.offer("b", b"x", to(None, B, ack=False), 0.0)
    for _ in range(50):
        medium.offer("a", bytes(60), to(B, A), 0.0)
    heard = [h for h in medium.step(1e6) if h.flight.node == "a"]  # everything in one step
    by_flight = {}
    for h in heard:
        by_flight.setdefault(h.flight.number, []).append(h)
    assert len(by_flight) == 50
    for steps in by_flight.values():
        assert [h.attempt for h in steps] == list(range(1, len(steps) + 1))
        assert [h.delivered for h in steps[:-1]] == [False] * (len(steps) - 1)
    assert any(len(steps) > 1 for steps in by_flight.values())


def test_a_full_queue_refuses_and_counts():
    medium = Medium(lambda _: 50.0, CLEAN, seed=1, queue=3)
    medium.join("a", 0.0)
    assert [medium.offer("a", b"f", to(None, A), 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert medium.counters["queue-full"] == 2


def test_contention_is_fair_among_honest_nodes_and_favours_who_cheats():
    def share(weight):
        medium = Medium(lambda _: 250.0, CLEAN, seed=3, queue=600)
        medium.join("a", 0.0)
        medium.join("x", 0.0, weight=weight, honest=False)
        for _ in range(600):
            medium.offer("a", bytes(20), to(None, A, ack=False), 0.0)
            medium.offer("x", bytes(20), to(None, A, ack=False), 0.0)
        return sum(h.flight.node == "x" for h in run(medium)[:500]) / 500

    assert share(1.0) == pytest.approx(0.5, abs=0.08)
    assert share(4.0) == pytest.approx(0.8, abs=0.08)


def test_an_attacker_cannot_take_over_an_address():
    medium = Medium(lambda _: 250.0, CLEAN, seed=3)
    for node, honest in (("a", True), ("b", True), ("x", False)):
        medium.join(node, 0.0, honest=honest)
    medium.offer("b", b"mine", to(None, B, ack=False), 0.0)
    run(medium)
    medium.offer("x", b"no, mine", to(None, B, ack=False), 1.0)
    run(medium)
    medium.offer("a", b"hello b", to(B, A), 2.0)
    (heard,) = run(medium)
    assert heard.flight.delivered is True
    assert heard.flight.attempts == 1


def test_too_many_nodes_are_refused_and_counted():
    medium = Medium(lambda _: 250.0, CLEAN, seed=3, max_nodes=2)
    assert [medium.join(n, 0.0) for n in ("a", "b", "c", "a")] == [True, True, False, True]
    assert medium.counters["too-many-nodes"] == 1


def test_loss_comes_in_bursts_and_has_its_mean():
    model = LossModel(good_seconds=2.0, bad_seconds=0.5, good_loss=0.0, bad_loss=0.8)
    fading = GilbertElliott(model, random.Random(1))
    lost = [fading.lost(i * 0.01) for i in range(200_000)]
    assert sum(lost) / len(lost) == pytest.approx(model.mean, abs=0.02)
    after_loss = sum(b for a, b in pairwise(lost) if a) / sum(lost)
    assert after_loss > 3 * model.mean


@pytest.mark.parametrize("bad", [{"good_seconds": 0}, {"bad_loss": 1.5}, {"good_loss": -0.1}])
def test_impossible_loss_is_refused(bad):
    with pytest.raises(ValueError, match="must"):
        LossModel(**bad)
