"""What is wrong with a run, told from an observation alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.agent.observation import Observation
from control_api.agent.trouble import find_trouble
from tests.control_api.agent.looks import look, points, started


@pytest.mark.parametrize(
    ("seen", "name", "since"),
    [
        (look(recent=[3.0] * 20 + [None] * 12), "not_finite", 53),
        (look(norms=[1.0] * 31 + [None]), "not_finite", 64),
        (look(on=("not_finite",), signals=(started("not_finite", 60),)), "not_finite", 60),
        (look(recent=[3.0] * 16 + [90.0] * 16), "divergence", 49),
        (look(on=("divergence",), signals=(started("divergence", 50),)), "divergence", 50),
        (look(norms=[1.0] * 20 + [500.0] * 12), "grad_norm", 53),
        (look(recent=[4.0] * 32, step=100), "stuck", 1),
        (look(recent=[4.0] * 32, step=30, on=("update_ratio",)), "stuck", 1),
        (look(recent=[4.0] * 32, step=100, update_ratios=points([0.05], 81)), "stuck", 1),
        (look(recent=[2.0**n for n in range(32)]), "divergence", 36),
    ],
)
def test_each_trouble_is_found_with_the_step_at_which_it_began(
    seen: Observation, name: str, since: int
) -> None:
    trouble = find_trouble(seen, 0)
    assert trouble is not None
    assert (trouble.name, trouble.since, trouble.remedy) == (name, since, "lower")


@pytest.mark.parametrize(
    "seen",
    [
        look(),
        look(recent=[3.0] * 31 + [90.0]),
        look(recent=[90.0] * 24 + [3.0] * 8),
        look(recent=[4.0] * 32, step=99),
        look(on=("throughput_drop", "loss_spike"), signals=(started("loss_spike", 60),)),
        look(recent=[], step=0),
        look(start_loss=None, recent=[90.0] * 32),
    ],
)
def test_noise_and_the_first_steps_are_no_trouble(seen: Observation) -> None:
    assert find_trouble(seen, 0) is None


def test_a_start_that_was_low_by_chance_makes_no_divergence() -> None:
    noisy = [1.7, 2.3] * 16
    assert find_trouble(look(recent=noisy, start_loss=1.64), 0) is None
    assert find_trouble(look(recent=[2.0] * 32, start_loss=1.64), 0) is not None


def test_a_model_that_was_good_at_its_start_may_learn_little_by_healthy_steps() -> None:
    seen = look(recent=[4.0] * 32, step=200, update_ratios=points([0.002], 181))
    assert find_trouble(seen, 0) is None


def test_what_was_before_the_last_change_says_nothing_about_it() -> None:
    seen = look(
        recent=[90.0] * 20 + [None] * 4 + [3.0] * 8,
        on=("divergence",),
        signals=(started("divergence", 40),),
    )
    assert find_trouble(seen, 0) is not None
    assert find_trouble(seen, 56) is None


def test_a_run_whose_steps_are_too_short_to_learn_needs_a_larger_rate() -> None:
    trouble = find_trouble(look(recent=[4.0] * 32, step=100, update_ratios=points([1e-6], 81)), 0)
    assert trouble is not None
    assert (trouble.name, trouble.remedy) == ("stuck", "raise")


LOSSES = st.lists(st.none() | st.floats(allow_nan=False), max_size=32)


@given(losses=LOSSES, norms=LOSSES, start=st.none() | st.floats(allow_nan=False))
def test_any_numbers_can_be_judged(
    losses: list[float | None], norms: list[float | None], start: float | None
) -> None:
    trouble = find_trouble(look(recent=losses, norms=norms, start_loss=start), 0)
    assert trouble is None or trouble.what
