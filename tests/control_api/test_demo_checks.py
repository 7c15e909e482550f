"""The demo's judge must be able to say no."""

import pytest

from control_api.demo.checks import (
    StepSeen,
    began_after,
    began_between,
    compare_repeat,
    stale_lr_steps,
    worst_share_error,
)


def seen(
    step: int, *, lr: float = 1.0, samples: tuple[int, ...] = (), branch: str = "main"
) -> StepSeen:
    return StepSeen(branch=branch, step=step, started_at=float(step), lr=lr, samples=samples)


def test_only_steps_that_began_after_the_answer_count_in_step_order() -> None:
    steps = [seen(3), seen(2), seen(1), seen(4, branch="other")]
    assert [s.step for s in began_after(steps, "main", 1.0)] == [2, 3]


def test_a_step_on_the_old_lr_is_stale() -> None:
    assert stale_lr_steps([seen(1, lr=2.0), seen(2, lr=1.0)], 2.0) == 1


def test_the_worst_share_error_is_found_inside_the_run_not_only_at_its_end() -> None:
    steps = [seen(1, samples=(1, 2, 3)), seen(2, samples=(7, 8, 9))]
    error, total = worst_share_error(steps, {1, 2, 3}, 0.5)
    assert (error, total) == (1.5, 6)


def test_a_step_inside_a_pause_is_seen() -> None:
    assert began_between([seen(1), seen(2), seen(3)], 1.0, 3.0) == 1


def test_a_repeat_is_exact_only_if_something_was_compared_and_all_was_equal() -> None:
    first = {1: seen(1, samples=(1, 2)), 2: seen(2, samples=(3, 4))}
    again = {2: seen(2, samples=(3, 4), branch="again")}
    assert compare_repeat(first, again, {1: 0.5, 2: 0.25}, {2: 0.25}).is_exact
    assert not compare_repeat(first, again, {2: 0.25}, {2: 0.25000001}).is_exact
    assert not compare_repeat(first, {}, {}, {}).is_exact


@pytest.mark.parametrize("samples", [(4, 3), (3,)])
def test_other_samples_are_a_difference(samples: tuple[int, ...]) -> None:
    repeat = compare_repeat(
        {2: seen(2, samples=(3, 4))}, {2: seen(2, samples=samples)}, {2: 0.5}, {2: 0.5}
    )
    assert repeat.differing_samples == 1
