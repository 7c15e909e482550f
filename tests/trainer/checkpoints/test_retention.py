"""Automatic checkpoints go when newer ones have come; what somebody or something needs stays."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from ingest.database import read
from ingest.settings import Settings
from tests.trainer.asking import asking
from tests.trainer.tiny import TinyFamily
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train
from trainer.tables import Checkpoint

pytest_plugins = ("tests.trainer.live_runs",)

Script = dict[int, list[tuple[str, dict[str, object]]]]


@pytest.fixture
def keeping_two(place: Workplace, family: TinyFamily) -> Callable[[int, Script], None]:
    """Trains with a checkpoint a step, two of which stay."""
    family.save_every = 1
    settings = place.settings.model_copy(update={"keep_checkpoints": 2})

    def run(max_steps: int, script: Script) -> None:
        family.witness.during = asking(place.engine, script)
        options = RunOptions(max_steps=max_steps, mix="mix")
        row = find_or_make_run(place.engine, "run", options, family)
        with family.witness.watching():
            assert train(replace(place, settings=settings), row, family) == "finished"

    return run


def listed(engine: Engine) -> set[str]:
    with read(engine) as session:
        return set(session.scalars(select(Checkpoint.name).where(Checkpoint.removed_at.is_(None))))


def on_disk(engine: Engine, settings: Settings) -> set[str]:
    with read(engine) as session:
        rows = session.scalars(select(Checkpoint)).all()
    return {row.name for row in rows if Path(settings.runs_path / row.path).exists()}


def test_the_newest_two_stay_and_the_start(
    keeping_two: Callable[[int, Script], None], engine: Engine, settings: Settings
) -> None:
    keeping_two(12, {})
    left = listed(engine)
    assert {"main-0", "main-11", "main-12"} <= left
    assert len(left) <= 4  # one is surplus only once it is listed
    assert on_disk(engine, settings) == left


def test_what_somebody_saved_stays_unless_they_said_otherwise(
    keeping_two: Callable[[int, Script], None], engine: Engine
) -> None:
    save_both: Script = {2: [("save", {"name": "good"}), ("save", {"name": "bad", "keep": False})]}
    keeping_two(12, save_both)
    assert "good" in listed(engine)
    assert "bad" not in listed(engine)


def test_what_waits_for_its_judgement_stays(
    keeping_two: Callable[[int, Script], None], engine: Engine
) -> None:
    keeping_two(12, {3: [("evaluate", {"suite": "fresh"})]})
    assert "main-3" in listed(engine)


def test_what_a_branch_began_from_stays_and_another_branch_has_its_own(
    keeping_two: Callable[[int, Script], None], engine: Engine
) -> None:
    keeping_two(14, {6: [("rollback", {"checkpoint": "main-4", "branch": "b"})]})
    assert {"main-4", "main-6", "b-13", "b-14"} <= listed(engine)
