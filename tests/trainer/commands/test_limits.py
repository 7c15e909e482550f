"""How far a limited key may move a rate, as arithmetic."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.commands.course import Course
from trainer.commands.kinds import LrChange, LrSchedule
from trainer.commands.limits import RateLimited, check_rates, rates_under

RATES = st.floats(1e-6, 1.0)
FACTORS = st.floats(1.0, 1_000.0)
SCHEDULES = st.builds(
    LrSchedule,
    shape=st.sampled_from(["constant", "linear", "cosine"]),
    to=RATES,
    steps=st.integers(6, 40),
    warm_up_steps=st.integers(0, 5),
)


@given(in_force=RATES, factor=FACTORS)
def test_the_allowed_factor_itself_is_allowed_up_and_down(in_force: float, factor: float) -> None:
    check_rates(in_force, [("value", in_force * factor), ("value", in_force / factor)], factor)


@given(in_force=RATES, factor=FACTORS, is_up=st.booleans())
def test_a_little_more_is_refused_and_names_what_is_allowed(
    in_force: float, factor: float, is_up: bool
) -> None:
    more = factor * 1.001
    rate = in_force * more if is_up else in_force / more
    with pytest.raises(RateLimited, match=r"value: .* ask for") as refused:
        check_rates(in_force, [("value", rate)], factor)
    assert refused.value.allowed == factor


@pytest.mark.parametrize(("in_force", "rate"), [(0.0, 0.1), (0.1, 0.0)])
def test_from_nothing_and_to_nothing_is_beyond_every_factor(in_force: float, rate: float) -> None:
    with pytest.raises(RateLimited):
        check_rates(in_force, [("factor", rate)], 1e6)


@given(start=RATES, schedule=SCHEDULES)
def test_every_rate_of_a_schedule_lies_between_those_that_are_judged(
    start: float, schedule: LrSchedule
) -> None:
    judged = [rate for _, rate in rates_under(LrChange(schedule=schedule), start)]
    course: Course | None = schedule.course(start)
    low, high = min([start, *judged]), max([start, *judged])
    for _ in itertools.count():
        if course is None:
            break
        assert low * (1 - 1e-9) <= course.rate <= high * (1 + 1e-9)
        course = course.after_step()


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (LrChange(value=0.1), ["value"]),
        (LrChange(factor=0.1), ["factor"]),
        (LrChange(schedule=LrSchedule(shape="linear", to=0.1, steps=9)), ["schedule.to"]),
    ],
)
def test_a_rate_is_named_by_the_field_that_gives_it(change: LrChange, fields: list[str]) -> None:
    assert [field for field, _ in rates_under(change, 1.0)] == fields
