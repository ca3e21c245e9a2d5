"""Narrowing without answers, and widening again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.fallback import Fallback


def test_commands_are_followed_as_long_as_answers_come():
    fallback = Fallback(4)
    assert fallback.width == 0
    for command in (3, 1, 2, 0, 3):
        fallback.answered(command)
        assert fallback.width == command


def test_a_command_beyond_the_head_is_its_widest():
    fallback = Fallback(4)
    fallback.answered(15)
    assert fallback.width == 3


def test_each_loss_narrows_by_one_step_down_to_the_narrowest():
    fallback = Fallback(4)
    fallback.answered(3)
    widths = []
    for _ in range(5):
        fallback.lost()
        widths.append(fallback.width)
    assert widths == [2, 1, 0, 0, 0]


def test_widening_takes_two_answers_a_step():
    fallback = Fallback(4)
    fallback.answered(3)
    for _ in range(3):
        fallback.lost()
    widths = []
    for _ in range(7):
        fallback.answered(3)
        widths.append(fallback.width)
    assert widths == [0, 1, 1, 2, 2, 3, 3]


def test_a_loss_right_after_a_step_up_doubles_the_patience_and_calm_halves_it_no_more():
    fallback = Fallback(2)
    fallback.answered(1)
    fallback.lost()
    waits = []
    for _ in range(5):
        answers = 0
        while fallback.width == 0:
            fallback.answered(1)
            answers += 1
        waits.append(answers)
        fallback.lost()
    assert waits == [2, 4, 8, 16, 16]
    for _ in range(40):
        fallback.answered(1)
    fallback.lost()
    assert fallback.width == 0
    fallback.answered(1)
    fallback.answered(1)
    assert fallback.width == 1


@given(st.integers(1, 16), st.lists(st.one_of(st.none(), st.integers(0, 15)), max_size=200))
def test_the_width_is_one_the_head_has_never_above_the_command_and_a_loss_never_widens(widths, events):
    fallback = Fallback(widths)
    commanded = 0
    for event in events:
        before = fallback.width
        if event is None:
            fallback.lost()
            assert fallback.width <= max(before - 1, 0)
        else:
            fallback.answered(event)
            commanded = event
        assert 0 <= fallback.width <= min(commanded, widths - 1)


@given(st.integers(1, 16), st.lists(st.one_of(st.none(), st.integers(0, 15)), max_size=60))
def test_any_past_is_forgiven_after_answers_enough(widths, events):
    fallback = Fallback(widths)
    for event in events:
        if event is None:
            fallback.lost()
        else:
            fallback.answered(event)
    for _ in range(16 * 17):
        fallback.answered(widths - 1)
    assert fallback.width == widths - 1


@pytest.mark.parametrize("start", [0, 2, 9])
def test_the_first_width(start):
    assert Fallback(4, start).width == min(start, 3)
