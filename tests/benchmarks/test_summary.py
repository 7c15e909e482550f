"""Outcomes to figures."""

from benchmarks.case_studies.lab import Outcome
from benchmarks.case_studies.summary import by_arm, figures, won


def outcome(arm: str, seed: int, held_out: float | None) -> Outcome:
    return Outcome(arm, seed, held_out, losses=[], num_undone=0, commands=[])


def test_losses_stand_by_arm_and_seed() -> None:
    outcomes = [outcome("a", 1, 2.0), outcome("b", 1, None), outcome("a", 2, 3.0)]
    assert by_arm(outcomes) == {"a": {1: 2.0, 2: 3.0}, "b": {1: None}}


def test_an_arm_has_its_mean_its_spread_and_every_seed() -> None:
    assert figures({2: 3.0, 1: 1.0}) == {
        "mean": 2.0,
        "sd": 1.4142,
        "held_out": {"1": 1.0, "2": 3.0},
    }


def test_a_model_that_gives_no_number_leaves_its_arm_without_a_mean() -> None:
    assert figures({1: 1.0, 2: None}) == {
        "mean": None,
        "sd": None,
        "held_out": {"1": 1.0, "2": None},
    }


def test_a_win_is_a_lower_loss_under_the_same_seed() -> None:
    assert won({1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.5, 2: 1.5, 3: 3.0}) == 1


def test_what_is_no_number_loses() -> None:
    assert won({1: None, 2: 1.0, 3: None}, {1: 9.0, 2: None, 3: None}) == 1
