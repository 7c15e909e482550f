"""A run's row: made once with its settings, found again by its name."""

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, func, select
from structlog.testing import capture_logs

from ingest.database import read, write
from tests.trainer.runs import make_mix
from tests.trainer.tiny import TinyFamily
from trainer.commands.references import CommandRefused
from trainer.run.rows import RunFinished, RunOptions, find_or_make_run, options_of
from trainer.tables import Run


@pytest.fixture(autouse=True)
def mix(engine: Engine) -> None:
    with write(engine) as session:
        make_mix(session, old=1.0)


def test_a_new_run_pins_what_its_family_draws(engine: Engine) -> None:
    run = find_or_make_run(engine, "n", RunOptions(mix="mix"), TinyFamily())
    assert (run.recipe, run.representation, run.environment) == ("tiny", "latent:tiny", "drawn/1")
    assert (run.state, run.branch, run.step, run.lr) == ("starting", "main", 0, 0.01)


@pytest.mark.parametrize("options", [RunOptions(), RunOptions(mix="nothing")])
def test_a_new_run_needs_a_mix_that_exists(engine: Engine, options: RunOptions) -> None:
    with pytest.raises(CommandRefused, match="mix"):
        find_or_make_run(engine, "n", options, TinyFamily())


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"lr": 11.0}, {"max_steps": 0}, {"seed": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RunOptions.model_validate(wrong)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "x" * 65])
def test_a_name_must_fit_an_address(engine: Engine, name: str) -> None:
    with pytest.raises(ValidationError):
        find_or_make_run(engine, name, RunOptions(mix="mix"), TinyFamily())


def test_a_run_is_found_again_with_its_own_settings(engine: Engine) -> None:
    made = find_or_make_run(engine, "n", RunOptions(mix="mix", lr=0.5, seed=7), TinyFamily())
    found = find_or_make_run(engine, "n", RunOptions(), TinyFamily())
    assert found.run_id == made.run_id
    assert (options_of(found).lr, options_of(found).seed) == (0.5, 7)
    with read(engine) as session:
        assert session.scalar(select(func.count()).select_from(Run)) == 1


def test_a_setting_that_is_ignored_is_said(engine: Engine) -> None:
    find_or_make_run(engine, "n", RunOptions(mix="mix", lr=0.5), TinyFamily())
    with capture_logs() as logs:
        find_or_make_run(engine, "n", RunOptions(mix="mix", lr=0.1), TinyFamily())
    assert [(line["event"], line["option"]) for line in logs] == [("option_ignored", "lr")]


def test_a_finished_run_is_not_found(engine: Engine) -> None:
    run = find_or_make_run(engine, "n", RunOptions(mix="mix"), TinyFamily())
    with write(engine) as session:
        session.get_one(Run, run.run_id).state = "finished"
    with pytest.raises(RunFinished, match="another name"):
        find_or_make_run(engine, "n", RunOptions(), TinyFamily())
