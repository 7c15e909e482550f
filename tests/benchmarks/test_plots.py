"""A case study's picture."""

from pathlib import Path

from PIL import Image

from benchmarks.case_studies.lab import Outcome
from benchmarks.case_studies.plots import differences, plot, points_of, smoothed

COMMAND = {"kind": "set_lr", "state": "applied", "args": {"value": 0.1}, "effective_step": 3}


def test_a_smooth_curve_forgets_one_wild_loss_and_keeps_its_length() -> None:
    assert smoothed([1.0] * 10 + [90.0] + [1.0] * 10) == [1.0] * 21


def test_a_curve_above_another_has_the_steps_of_both() -> None:
    curves = {"well": points_of([3.0, 2.0, 1.0]), "lost": points_of([3.5, None, 9.0])}
    assert differences(curves, "well")["lost"] == [(1, 0.5), (3, 8.0)]


def test_a_run_that_lost_its_numbers_is_drawn_as_far_as_it_had_some(tmp_path: Path) -> None:
    outcomes = [
        Outcome("well", 3, 2.0, losses=[3.0, 2.0, 1.0], num_undone=0, commands=[COMMAND]),
        Outcome("lost", 3, None, losses=[3.0, 9.0, None], num_undone=0, commands=[]),
    ]
    path = tmp_path / "study.png"
    plot(outcomes, shown_seed=3, steered="well", path=path, above="well")
    with Image.open(path) as picture:
        assert picture.width > picture.height > 300
