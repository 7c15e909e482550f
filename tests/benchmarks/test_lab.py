"""What a run's losses are, seen along its line."""

from benchmarks.case_studies.lab import line_to

BRANCHES = [
    {"name": "main", "parent": None, "from_step": 0},
    {"name": "second", "parent": "main", "from_step": 2},
    {"name": "third", "parent": "second", "from_step": 1},
]
LOSSES = {"main": {1: 0.1, 2: 0.2, 3: 0.3}, "second": {3: 2.3, 4: 2.4}, "third": {2: 3.2}}


def test_a_run_without_a_rollback_has_all_its_losses() -> None:
    assert line_to("main", BRANCHES, LOSSES) == [0.1, 0.2, 0.3]


def test_steps_that_a_rollback_took_back_are_left_out() -> None:
    assert line_to("second", BRANCHES, LOSSES) == [0.1, 0.2, 2.3, 2.4]


def test_a_rollback_of_a_rollback_leaves_out_what_both_took_back() -> None:
    assert line_to("third", BRANCHES, LOSSES) == [0.1, 3.2]
