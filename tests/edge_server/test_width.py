"""The width controller: what it chooses, why, and that it beats every fixed width on a varying link."""

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.width import ChanceConstrained, Choice, FixedWidth, Sample, WidthOption, WidthPolicy
from edge_server.width.types import ANSWER_AIR, CUSTODY_AIR, air

OPTIONS = (
    WidthOption(0.25, 0.80, 1.0, 40.0),
    WidthOption(0.5, 0.87, 2.0, 110.0),
    WidthOption(0.75, 0.90, 3.0, 200.0),
    WidthOption(1.0, 0.92, 4.0, 290.0),
)
DEVICE = b"\x02" + bytes(7)
DEADLINE = 0.3


def sample(at: float, rate: float, option: int, **more) -> Sample:
    """A message of this width over a link of `rate` bytes of channel time a second."""
    o = OPTIONS[option]
    seconds = (air(o.frames, o.coded) + CUSTODY_AIR) / rate
    return Sample(at, seconds, int(o.frames), coded=o.coded, option=option)._replace(**more)


def utility(policy: WidthPolicy, rate, messages: int = 600, period: float = 1.0, seed: int = 1) -> float:
    """Mean accuracy × on time over a link of `rate(t)` bytes/s, jitter ±10 %; reports come a message late."""
    rng = random.Random(seed)
    width, total = 0, 0.0
    last = None
    for number in range(messages):
        t = number * period
        option = OPTIONS[width]
        per_byte = rng.uniform(0.9, 1.1) / rate(t)
        custody = (air(option.frames, option.coded) + CUSTODY_AIR) * per_byte
        total += option.accuracy * (custody + ANSWER_AIR * per_byte + 0.03 <= DEADLINE)
        if last is not None:
            policy.observe(DEVICE, last._replace(at=t))
        last = Sample(t, custody, int(option.frames), coded=option.coded, option=width)
        width = policy.choose(DEVICE, OPTIONS, width, t)
    return total / messages


def settle(
    controller: ChanceConstrained, rate: float, times: int, option: int = 0, start: float = 0.0
) -> int:
    """Messages over a steady link, each at the width told before; the last width told."""
    for i in range(times):
        controller.observe(DEVICE, sample(start + i, rate, option))
        option = controller.choose(DEVICE, OPTIONS, option, start + i)
    return option


def last(controller: ChanceConstrained) -> Choice:
    return controller.explain(DEVICE)[0]


def test_a_fast_link_gets_the_widest_and_a_slow_one_the_narrowest() -> None:
    assert settle(ChanceConstrained(DEADLINE), 20_000, 12) == 3
    assert settle(ChanceConstrained(DEADLINE), 1_700, 12, option=3) == 0


def test_the_time_that_the_head_takes_counts() -> None:
    slow = tuple(WidthOption(*o_args) for o_args in ((0.25, 0.80, 1.0, 40.0), (1.0, 0.92, 4.0, 290.0, 0.29)))
    controller = ChanceConstrained(DEADLINE)
    index = 0
    for i in range(20):
        controller.observe(DEVICE, sample(i, 20_000, 0))
        index = controller.choose(DEVICE, slow, index, i)
    assert index == 0


def test_time_in_the_servers_queue_counts() -> None:
    controller = ChanceConstrained(DEADLINE)
    settle(controller, 6_000, 20)
    controller.choose(DEVICE, OPTIONS, 0, 20.0)
    free = last(controller).on_time
    controller.choose(DEVICE, OPTIONS, 0, 20.0, waited=0.15)
    assert last(controller).on_time[3] < free[3] / 2
    assert last(controller).on_time[0] > 0.8


def test_nothing_measured_keeps_the_width() -> None:
    controller = ChanceConstrained(DEADLINE)
    assert controller.choose(DEVICE, OPTIONS, 2, 0.0) == 2
    assert (last(controller).width, last(controller).samples, last(controller).on_time) == (0.75, 0, ())


def test_after_silence_nothing_is_known_of_the_link() -> None:
    controller = ChanceConstrained(DEADLINE, horizon=60)
    settle(controller, 1_700, 20, option=3)
    assert controller.choose(DEVICE, OPTIONS, 3, 200.0) == 3
    assert "nothing measured" in last(controller).reason


def test_a_link_that_turns_bad_is_followed_within_three_messages() -> None:
    controller = ChanceConstrained(DEADLINE)
    assert settle(controller, 20_000, 20) == 3
    assert settle(controller, 1_700, 3, option=3, start=20) < 3


def test_a_wider_width_is_never_thought_more_punctual() -> None:
    controller = ChanceConstrained(DEADLINE)
    rng = random.Random(3)
    for i in range(300):
        rate = rng.choice((1_500, 4_000, 20_000))
        controller.observe(DEVICE, sample(i, rate, 0, seconds=inf) if i % 9 == 0 else sample(i, rate, 0))
        controller.choose(DEVICE, OPTIONS, 0, i)
        on_time = last(controller).on_time
        assert list(on_time) == sorted(on_time, reverse=True)


def test_lost_messages_lower_every_probability() -> None:
    well, badly = ChanceConstrained(DEADLINE), ChanceConstrained(DEADLINE)
    for i in range(60):
        for controller in (well, badly):
            lost = controller is badly and i % 2
            controller.observe(DEVICE, sample(i, 5_000, 0, seconds=inf) if lost else sample(i, 5_000, 0))
            controller.choose(DEVICE, OPTIONS, 0, i)
    assert all(b < w for b, w in zip(last(badly).on_time, last(well).on_time, strict=True))


def test_a_gain_below_the_margin_is_not_worth_a_switch() -> None:
    alike = (WidthOption(0.25, 0.80, 1.0), WidthOption(0.5, 0.870, 1.5), WidthOption(1.0, 0.8715, 1.5))
    controller = ChanceConstrained(DEADLINE, patience=1000)
    index = 1
    for i in range(30):
        controller.observe(DEVICE, Sample(i, 0.02, 1, option=index))
        index = controller.choose(DEVICE, alike, index, i)
    assert index == 1
    assert "to switch" in last(controller).reason


def test_fewer_than_one_switch_in_ten_messages_on_the_wildest_link() -> None:
    controller = ChanceConstrained(DEADLINE)
    rng = random.Random(5)
    width, switches = 0, 0
    for i in range(1000):
        controller.observe(DEVICE, sample(i, rng.choice((1_200, 2_500, 6_000, 30_000)), width))
        told = controller.choose(DEVICE, OPTIONS, width, i)
        switches += told != width
        width = told
    assert 0 < switches < 100


def test_nothing_on_time_falls_to_the_cheapest() -> None:
    controller = ChanceConstrained(DEADLINE, shrinkage=0.0)
    settle(controller, 50, 30, option=3)
    assert last(controller).option == 0
    assert "cheapest" in last(controller).reason


def test_a_duty_cycle_bounds_the_width() -> None:
    controller = ChanceConstrained(DEADLINE, duty_cycle=0.02)
    assert settle(controller, 20_000, 30) == 1
    assert "duty cycle" in last(controller).reason
    assert settle(ChanceConstrained(DEADLINE, duty_cycle=0.5), 20_000, 30) == 3


def test_a_low_battery_gets_the_cheapest() -> None:
    controller = ChanceConstrained(DEADLINE, low_battery=3)
    told = [
        (
            controller.observe(DEVICE, sample(i, 20_000, 0, battery=level)),
            controller.choose(DEVICE, OPTIONS, 3, i),
        )
        for i, level in enumerate([9] * 12 + [3])
    ]
    assert [index for _, index in told[-2:]] == [3, 0]


def test_a_required_share_on_time_comes_before_accuracy() -> None:
    def usual(min_on_time: float) -> float:
        controller = ChanceConstrained(DEADLINE, min_on_time=min_on_time)
        rng = random.Random(2)
        index, total = 0, 0
        for i in range(300):
            controller.observe(DEVICE, sample(i, 3_000 * rng.uniform(0.7, 1.6), index))
            index = controller.choose(DEVICE, OPTIONS, index, i)
            total += index
        return total / 300

    assert usual(0.99) < usual(0.0)


def test_samples_that_wait_on_the_device_forbid_a_step_up() -> None:
    controller = ChanceConstrained(DEADLINE)
    for i in range(12):
        controller.observe(DEVICE, sample(i, 20_000, 0))
        assert controller.choose(DEVICE, OPTIONS, 0, i, queue=3) == 0
    assert controller.choose(DEVICE, OPTIONS, 0, 12, queue=0) > 0


def test_a_fixed_cost_per_message_is_found_out_by_a_look_upwards() -> None:
    """With 170 ms a message whatever its size, per byte narrow ones look twice as slow as wide ones."""
    controller = ChanceConstrained(0.35, patience=16)
    index, used = 0, []
    for i in range(1500):
        option = OPTIONS[index]
        seconds = 0.17 + (air(option.frames, option.coded) + CUSTODY_AIR) / 40_000
        controller.observe(DEVICE, Sample(i, seconds, int(option.frames), coded=option.coded, option=index))
        index = controller.choose(DEVICE, OPTIONS, index, i)
        used.append(index)
    assert sum(used[-200:]) > sum(used[:200])


def test_one_lucky_look_upwards_changes_nothing_and_a_second_one_does() -> None:
    """A steady link where half is hardly ever on time; a look at it takes a third of what was forecast."""

    def believed(lucky: int) -> float:
        controller = ChanceConstrained(DEADLINE, patience=16)
        index, looks = 0, 0
        while looks < 2:
            i = last(controller).at + 1 if len(controller) else 0.0
            seconds = sample(i, 1_850, index).seconds
            if len(controller) and "look" in last(controller).reason:
                looks += 1
                seconds /= 3 if looks <= lucky else 1
            controller.observe(DEVICE, sample(i, 1_850, index, seconds=seconds))
            index = controller.choose(DEVICE, OPTIONS, index, i)
            assert i < 1000
        return last(controller).on_time[1]

    never, once, twice = believed(0), believed(1), believed(2)
    assert abs(once - never) < 0.05
    assert twice > never + 0.2


@pytest.mark.parametrize(("good", "bad", "seconds"), [(9e3, 1.6e3, 60), (9e3, 2e3, 120), (6e3, 1.6e3, 120)])
def test_a_link_that_comes_and_goes_is_used_better_than_by_any_fixed_width(good, bad, seconds) -> None:
    def rate(t: float) -> float:
        return good if int(t / seconds) % 2 == 0 else bad

    ours = utility(ChanceConstrained(DEADLINE), rate)
    assert ours > max(utility(FixedWidth(option.width), rate) for option in OPTIONS)


@pytest.mark.parametrize("rate", [25e3, 5e3, 2e3, 1.6e3])
def test_a_steady_link_costs_next_to_nothing_against_the_best_fixed_width(rate) -> None:
    ours = utility(ChanceConstrained(DEADLINE), lambda _: rate)
    assert ours >= max(utility(FixedWidth(o.width), lambda _: rate) for o in OPTIONS) - 0.01


def test_devices_do_not_mix() -> None:
    controller = ChanceConstrained(DEADLINE)
    settle(controller, 1_700, 12, option=3)
    assert controller.choose(b"another", OPTIONS, 3, 12.0) == 3
    assert controller.explain(b"never heard") == []
    assert len(controller) == 2


def test_another_model_starts_anew() -> None:
    controller = ChanceConstrained(DEADLINE)
    settle(controller, 1_700, 12, option=3)
    other = (WidthOption(0.5, 0.7, 1.0), WidthOption(1.0, 0.8, 9.0))
    assert controller.choose(DEVICE, other, 1, 12.0) == 1
    assert last(controller).samples == 0


def test_explain_is_newest_first_and_bounded() -> None:
    controller = ChanceConstrained(DEADLINE)
    settle(controller, 20_000, 100)
    choices = controller.explain(DEVICE)
    assert len(choices) == 8
    assert [c.at for c in choices[:2]] == [99.0, 98.0]


samples = st.tuples(
    st.floats(0.001, 20) | st.just(inf),
    st.integers(1, 14),
    st.integers(0, 15),
    st.integers(0, 15),
    st.floats(0, 1),
    st.integers(-1, 4),
)


@given(
    st.lists(samples, max_size=60),
    st.floats(1.0, 9.0),
    st.floats(0.01, 2.0),
    st.floats(0.01, 1.0),
    st.integers(0, 15),
)
def test_any_history_gives_a_width_that_exists_and_probabilities(
    history, frames, deadline, duty, battery
) -> None:
    options = (*OPTIONS[:3], WidthOption(1.0, 0.92, frames))
    controller = ChanceConstrained(deadline, duty_cycle=duty, low_battery=battery, patience=3)
    current = 0
    for at, (seconds, sent, retries, queue, waited, option) in enumerate(history):
        message = Sample(at, seconds, sent, retries, 30.0 * sent, waited, option, queue)
        controller.observe(DEVICE, message)
        current = controller.choose(DEVICE, options, current, float(at), queue, waited)
        choice = controller.explain(DEVICE)[0]
        assert (choice.option, choice.width) == (current, options[current].width)
        assert all(0 <= p <= 1 for p in choice.on_time)
        assert choice.reason


def test_longer_messages_are_expected_to_be_lost_more_often() -> None:
    """Every twentieth message of one frame is lost, so four frames arrive 0.95 ** 4 of the time."""
    controller = ChanceConstrained(DEADLINE)
    for i in range(600):
        message = sample(i, 50_000, 0)
        controller.observe(DEVICE, message._replace(seconds=inf) if i % 20 == 7 else message)
        controller.choose(DEVICE, OPTIONS, 0, i)
    controller.observe(DEVICE, sample(600, 50_000, 0))
    controller.choose(DEVICE, OPTIONS, 0, 600)
    on_time = last(controller).on_time
    assert on_time[0] == pytest.approx(0.95, abs=0.03)
    assert on_time[3] == pytest.approx(0.95**4, abs=0.04)


def test_messages_that_fading_slows_make_wider_ones_less_likely_to_be_on_time() -> None:
    """One in ten takes three times as long, which at this speed is still on time at every width."""
    calm, fading = ChanceConstrained(DEADLINE), ChanceConstrained(DEADLINE)
    for i in range(300):
        for controller in (calm, fading):
            message = sample(i, 50_000, 0)
            slow = controller is fading and i % 10 == 7
            controller.observe(DEVICE, message._replace(seconds=message.seconds * 3) if slow else message)
            controller.choose(DEVICE, OPTIONS, 0, i)
    (narrow, *_, wide), (before, *_, after) = last(calm).on_time, last(fading).on_time
    assert wide - after > 2 * (narrow - before) > 0


def test_of_a_lost_message_a_shorter_one_might_have_arrived() -> None:
    wide, narrow = ChanceConstrained(DEADLINE), ChanceConstrained(DEADLINE)
    for i in range(200):
        for controller, frames in ((wide, 4), (narrow, 1)):
            message = sample(i, 50_000, 0)
            controller.observe(
                DEVICE, message._replace(seconds=inf, frames=frames) if i % 4 == 1 else message
            )
            controller.choose(DEVICE, OPTIONS, 0, i)
    assert last(wide).on_time[0] > last(narrow).on_time[0] + 0.05


def test_what_a_link_does_is_not_taken_for_the_width_in_use() -> None:
    """Two devices on one uneven link, each at one width all the time, are believed to have the same link."""
    controllers = ChanceConstrained(DEADLINE), ChanceConstrained(DEADLINE)
    rng = random.Random(1)
    for i in range(600):
        rate = 3_000 * rng.uniform(0.8, 1.25) * rng.choice((1, 1, 1, 1, 0.35))
        for option, controller in enumerate(controllers):
            controller.observe(DEVICE, sample(i, rate, option))
            controller.choose(DEVICE, OPTIONS, option, i)
    beliefs = (last(controller).on_time for controller in controllers)
    assert all(abs(p - q) < 0.05 for p, q in zip(*beliefs, strict=True))


def test_at_the_start_the_widths_are_told_apart_at_once() -> None:
    """After one message: nothing but the forecast counts, no long-held belief."""
    controller = ChanceConstrained(DEADLINE)
    assert settle(controller, 2_000, 2) == 0
    on_time = last(controller).on_time
    assert on_time[0] > 0.6
    assert on_time[3] < 0.05


def test_a_fixed_policy_never_moves() -> None:
    policy = FixedWidth(0.75)
    for i in range(5):
        policy.observe(DEVICE, Sample(i, 9.0, 3))
        assert policy.choose(DEVICE, OPTIONS, 0, i) == 2
    assert policy.explain(DEVICE)[0].option == 2
