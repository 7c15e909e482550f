"""Fixtures for tests that really train; name this module in `pytest_plugins`."""

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from ingest.database import write
from ingest.settings import Settings
from tests.trainer.runs import make_mix, make_tiny_samples
from tests.trainer.stepping import Steps, stepping
from tests.trainer.tiny import TinyFamily, Witness
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train


@pytest.fixture
def family() -> TinyFamily:
    return TinyFamily()


@pytest.fixture
def witness(family: TinyFamily) -> Witness:
    return family.witness


@pytest.fixture
def steps() -> Iterator[Steps]:
    with stepping() as steps:
        yield steps


@pytest.fixture
def place(engine: Engine, settings: Settings) -> Workplace:
    """Where runs are trained; a mix of `old` and one of `fresh`, 40 samples each."""
    with write(engine) as session:
        for task in ("old", "fresh"):
            for _ in range(4):
                make_tiny_samples(session, task, 10)
        make_mix(session, "mix", old=1.0)
        make_mix(session, "fresh", fresh=1.0)
    often = settings.model_copy(update={"adopt_every_s": 0.02})
    return Workplace(engine, often, threading.Event())


@pytest.fixture
def training(place: Workplace, family: TinyFamily) -> Callable[..., str]:
    """Trains (or resumes) the run called `run`; gives the state in which it ended."""

    def train_run(max_steps: int = 10, **options: object) -> str:
        asked = RunOptions.model_validate({"max_steps": max_steps, "mix": "mix", **options})
        run = find_or_make_run(place.engine, "run", asked, family)
        with family.witness.watching():
            return train(place, run, family)

    return train_run
