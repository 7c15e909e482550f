"""A case study's picture."""

from pathlib import Path

from PIL import Image

from benchmarks.case_studies.lab import Outcome
from benchmarks.case_studies.plots import plot, smoothed

COMMAND = {"state": "applied", "args": {"value": 0.1}, "effective_step": 3}


def test_a_smooth_curve_forgets_one_wild_loss_and_keeps_its_length() -> None:
    assert smoothed([1.0] * 10 + [90.0] + [1.0] * 10) == [1.0] * 21


def test_a_run_that_lost_its_numbers_is_drawn_as_far_as_it_had_some(tmp_path: Path) -> None:
    outcomes = [
        Outcome("well", 3, 2.0, losses=[3.0, 2.0, 1.0], num_undone=0, commands=[COMMAND]),
        Outcome("lost", 3, None, losses=[3.0, 9.0, None], num_undone=0, commands=[]),
    ]
    plot(outcomes, shown_seed=3, path=tmp_path / "study.png")
    with Image.open(tmp_path / "study.png") as picture:
        assert picture.width > picture.height > 300
