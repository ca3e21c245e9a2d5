"""The width controller: what it chooses, why, and that it beats every fixed width on a varying link."""

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.width import ChanceConstrained, FixedWidth, Sample, WidthOption, WidthPolicy

OPTIONS = (
    WidthOption(0.25, 0.80, 1.0),
    WidthOption(0.5, 0.87, 2.0),
    WidthOption(0.75, 0.90, 3.0),
    WidthOption(1.0, 0.92, 4.0),
)
DEVICE = b"\x02" + bytes(7)
DEADLINE = 0.3


def utility(policy: WidthPolicy, rate, messages: int = 600, period: float = 1.0, seed: int = 1) -> float:
    """Mean accuracy × on time over a link of `rate(t)` bit/s, 133 bytes a frame, jitter ±10 %."""
    rng = random.Random(seed)
    t, width, total = 0.0, 0, 0.0
    for _ in range(messages):
        option = OPTIONS[width]
        frames = int(option.frames)
        seconds = (frames + 1) * 133 * 8 / rate(t) * rng.uniform(0.9, 1.1) + 0.01
        total += option.accuracy * (seconds <= DEADLINE)
        t += max(period, seconds)
        policy.observe(DEVICE, Sample(t, seconds, frames))
        width = policy.choose(DEVICE, OPTIONS, width, t).index
    return total / messages


def feed(
    controller: ChanceConstrained, seconds: float, times: int, frames: int = 1, start: float = 0.0
) -> None:
    for i in range(times):
        controller.observe(DEVICE, Sample(start + i, seconds, frames))


def test_a_fast_link_gets_the_widest_and_a_slow_one_the_narrowest() -> None:
    for seconds, expected in ((0.04, 1.0), (0.26, 0.25)):
        controller = ChanceConstrained(DEADLINE)
        feed(controller, seconds, 12)
        assert controller.choose(DEVICE, OPTIONS, 1, 12.0).width == expected


def test_nothing_measured_keeps_the_width() -> None:
    choice = ChanceConstrained(DEADLINE).choose(DEVICE, OPTIONS, 2, 0.0)
    assert (choice.width, choice.samples, choice.on_time) == (0.75, 0, ())


def test_old_samples_say_nothing() -> None:
    controller = ChanceConstrained(DEADLINE, horizon=60)
    feed(controller, 0.26, 20)
    assert controller.choose(DEVICE, OPTIONS, 3, 200.0).samples == 0


def test_two_misses_after_a_good_run_leave_the_widest() -> None:
    controller = ChanceConstrained(DEADLINE)
    for i in range(20):
        controller.observe(DEVICE, Sample(i, 0.1, 4))
        assert controller.choose(DEVICE, OPTIONS, 3, i).width == 1.0
    for i in range(20, 23):
        controller.observe(DEVICE, Sample(i, 0.6, 4))
        choice = controller.choose(DEVICE, OPTIONS, 3, i)
    assert choice.width < 1.0


def test_a_message_that_never_arrived_counts_less_against_smaller_ones() -> None:
    controller = ChanceConstrained(DEADLINE)
    feed(controller, 0.05, 4)
    for i in range(6):
        controller.observe(DEVICE, Sample(4.0 + i, inf, 4))
    on_time = controller.choose(DEVICE, OPTIONS, 3, 10.0).on_time
    assert on_time[0] > on_time[1] > on_time[2] > on_time[3]


def test_hysteresis_keeps_the_width_for_a_gain_below_the_margin() -> None:
    alike = (WidthOption(0.5, 0.870, 1.0), WidthOption(1.0, 0.875, 1.0))
    controller = ChanceConstrained(DEADLINE, margin=0.01, patience=1000)
    feed(controller, 0.05, 5)
    assert controller.choose(DEVICE, alike, 0, 5.0).index == 0


def test_nothing_on_time_falls_to_the_cheapest() -> None:
    controller = ChanceConstrained(DEADLINE)
    feed(controller, 9.0, 5)
    choice = controller.choose(DEVICE, OPTIONS, 3, 5.0)
    assert choice.index == 0
    assert "cheapest" in choice.reason


def test_a_trial_starts_after_a_fast_run_ends_with_its_first_miss_and_waits_twice_as_long() -> None:
    controller = ChanceConstrained(DEADLINE, patience=4)
    feed(controller, 0.28, 20)
    feed(controller, 0.05, 3, start=20)
    assert controller.choose(DEVICE, OPTIONS, 0, 23).index == 0
    feed(controller, 0.05, 1, start=23)
    trial = controller.choose(DEVICE, OPTIONS, 0, 24)
    assert trial.index > 0
    assert "trial" in trial.reason
    controller.observe(DEVICE, Sample(25, 0.9, 2))
    runs = 0
    while controller.choose(DEVICE, OPTIONS, 0, 26).index == 0 and runs < 20:
        controller.observe(DEVICE, Sample(26, 0.05, 1))
        runs += 1
    assert runs >= 8


def test_a_waiting_queue_forbids_a_trial() -> None:
    controller = ChanceConstrained(DEADLINE, patience=4)
    feed(controller, 0.28, 20)
    feed(controller, 0.05, 4, start=20)
    assert controller.choose(DEVICE, OPTIONS, 0, 24, queue=3).index == 0
    assert controller.choose(DEVICE, OPTIONS, 0, 24, queue=0).index > 0


@pytest.mark.parametrize(("good", "bad", "seconds"), [(80e3, 10e3, 60), (80e3, 7.5e3, 120), (60e3, 9e3, 120)])
def test_a_link_that_comes_and_goes_is_used_better_than_by_any_fixed_width(good, bad, seconds) -> None:
    def rate(t: float) -> float:
        return good if int(t / seconds) % 2 == 0 else bad

    controller = ChanceConstrained(DEADLINE)
    ours = utility(controller, rate)
    fixed = [utility(FixedWidth(option.width), rate) for option in OPTIONS]
    assert ours > max(fixed)


@pytest.mark.parametrize("rate", [200e3, 40e3, 16e3, 9e3])
def test_a_steady_link_costs_next_to_nothing_against_the_best_fixed_width(rate) -> None:
    ours = utility(ChanceConstrained(DEADLINE), lambda _: rate)
    assert ours >= max(utility(FixedWidth(o.width), lambda _: rate) for o in OPTIONS) - 0.01


def test_devices_do_not_mix() -> None:
    controller = ChanceConstrained(DEADLINE)
    feed(controller, 0.26, 12)
    assert controller.choose(b"another", OPTIONS, 3, 12.0).width == 1.0
    assert controller.explain(b"never heard") == []


def test_explain_is_newest_first_and_bounded() -> None:
    controller = ChanceConstrained(DEADLINE)
    for i in range(100):
        controller.observe(DEVICE, Sample(i, 0.05, 1))
        controller.choose(DEVICE, OPTIONS, 0, float(i))
    choices = controller.explain(DEVICE)
    assert len(choices) == 32
    assert [c.at for c in choices[:2]] == [99.0, 98.0]


samples = st.tuples(
    st.floats(0.001, 20) | st.just(inf), st.integers(1, 14), st.integers(0, 15), st.integers(0, 15)
)


@given(st.lists(samples, max_size=60), st.floats(1.0, 9.0))
def test_any_history_gives_a_width_that_exists_and_probabilities(history, frames) -> None:
    options = (*OPTIONS[:3], WidthOption(1.0, 0.92, frames))
    controller = ChanceConstrained(DEADLINE)
    current = 0
    for at, (seconds, sent, retries, queue) in enumerate(history):
        controller.observe(DEVICE, Sample(at, seconds, sent, retries))
        choice = controller.choose(DEVICE, options, current, float(at), queue)
        current = choice.index
        assert choice.width == options[current].width
        assert all(0 <= p <= 1 for p in choice.on_time)
        assert choice.reason


def test_a_fixed_policy_never_moves() -> None:
    policy = FixedWidth(0.75)
    for i in range(5):
        policy.observe(DEVICE, Sample(i, 9.0, 3))
        assert policy.choose(DEVICE, OPTIONS, 0, i).width == 0.75
    assert policy.explain(DEVICE)[0].index == 2
