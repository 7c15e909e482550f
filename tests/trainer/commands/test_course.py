"""The course of a rate: where it goes in each step, whatever it is given."""

import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.commands.course import Course

rates = st.floats(min_value=1e-12, max_value=10.0)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    steps = draw(st.integers(1, 300))
    return Course(
        draw(st.sampled_from(["constant", "linear", "cosine"])),
        draw(rates),
        draw(rates),
        steps,
        draw(st.integers(0, steps - 1)),
    )


def taken(course: Course) -> list[float]:
    """The rates of all its steps."""
    rates, at = [], course
    while at is not None:
        rates.append(at.rate)
        at = at.after_step()
    return rates


@given(courses())
def test_it_takes_as_many_steps_as_asked_and_ends_at_its_rate(course: Course) -> None:
    seen = taken(course)
    assert len(seen) == course.steps
    assert seen[-1] == course.to


@given(courses())
def test_no_rate_is_0_or_above_what_was_asked_and_in_force(course: Course) -> None:
    assert all(0 < rate <= max(course.start, course.to) for rate in taken(course))


@given(courses())
def test_after_the_warm_up_it_moves_in_one_direction_and_between_its_ends(course: Course) -> None:
    seen = taken(course)[course.warm_up_steps :]
    low, high = sorted((course.start, course.to))
    assert all(low <= rate <= high for rate in seen)
    assert seen == sorted(seen, reverse=course.to < course.start)


@given(courses())
def test_a_warm_up_rises_to_its_peak_in_its_last_step(course: Course) -> None:
    rising = taken(course)[: course.warm_up_steps]
    assert rising == sorted(rising)
    if rising:
        assert rising[-1] == (course.to if course.shape == "constant" else course.start)


@given(courses(), st.integers(1, 300))
def test_written_down_and_read_again_it_goes_on_bit_for_bit(course: Course, at: int) -> None:
    midway = replace(course, step=min(at, course.steps))
    again = Course(**json.loads(json.dumps(asdict(midway))))
    assert taken(again) == taken(course)[midway.step - 1 :]


def test_a_line_is_a_line() -> None:
    assert taken(Course("linear", 1.0, 0.5, 5)) == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])


def test_a_cosine_is_half_a_cycle() -> None:
    expected = [0.5 + 0.5 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(1, 9)]
    assert taken(Course("cosine", 1.0, 0.5, 8)) == pytest.approx(expected)


def test_a_warm_up_leads_into_the_rest() -> None:
    assert taken(Course("linear", 1.0, 0.5, 4, 2)) == pytest.approx([0.5, 1.0, 0.75, 0.5])
    assert taken(Course("constant", 9.0, 0.5, 4, 2)) == pytest.approx([0.25, 0.5, 0.5, 0.5])
