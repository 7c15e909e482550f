"""The run's checkpoints in memory: found by id or name, and names that are free."""

import pytest

from trainer.checkpoints.register import Register
from trainer.commands.references import CommandRefused
from trainer.journal.lineage import CheckpointSaved


def saved(name: str, *, branch: str = "main", step: int = 1) -> CheckpointSaved:
    return CheckpointSaved(
        checkpoint_id=f"id-{name}",
        branch=branch,
        step=step,
        lr=5e-4,
        name=name,
        note="",
        path=name,
        digest="",
        num_bytes=0,
        is_kept=False,
        at=0.0,
    )


def test_a_checkpoint_is_found_by_id_and_by_name() -> None:
    register = Register([saved("good")])
    assert register.find("good") == register.find("id-good") == saved("good")


def test_an_unknown_checkpoint_is_refused_and_those_that_are_there_are_named() -> None:
    with pytest.raises(CommandRefused, match="no checkpoint 'lost'; it has none yet"):
        Register([]).find("lost")
    with pytest.raises(CommandRefused, match="no checkpoint 'lost'; its newest are b, a"):
        Register([saved("a"), saved("b")]).find("lost")


def test_what_was_removed_is_not_found_any_more() -> None:
    register = Register([saved("a"), saved("b")])
    register.remove(["id-a"])
    assert [found.name for found in register.newest_first("main")] == ["b"]


def test_the_newest_of_a_branch_comes_first() -> None:
    checkpoints = [saved("a"), saved("b", step=2), saved("c", branch="other"), saved("d", step=2)]
    register = Register(checkpoints)
    assert [found.name for found in register.newest_first("main")] == ["d", "b", "a"]
    assert register.of_step("main", 2) == checkpoints[3]
    assert register.of_step("other", 2) is None


def test_a_name_that_is_taken_is_refused() -> None:
    register = Register([])
    register.add(saved("good"))
    with pytest.raises(CommandRefused, match="choose another name"):
        register.check_name("good")


def test_made_up_names_avoid_those_that_people_chose() -> None:
    register = Register([saved("main-5"), saved("main-5-2")])
    assert register.free_name("main", 5) == "main-5-3"
    assert register.free_name("main", 6) == "main-6"
