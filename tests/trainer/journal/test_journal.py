"""The journal: in order, retried, fenced, and never waited for."""

import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from ingest.database import open_engine, read, write
from ingest.settings import Settings
from tests.trainer.runs import ask
from trainer.journal.command_entries import CommandSettled
from trainer.journal.entries import RunEnded, StepTaken
from trainer.journal.journal import Journal
from trainer.journal.lease import Lease, LeaseLost
from trainer.mix.sampler import MixStatus
from trainer.tables import Command, Metric, Run, Step


@pytest.fixture
def journal(engine: Engine, lease: Lease) -> Iterator[Journal]:
    with Journal(engine, lease) as journal:
        yield journal


def step(number: int, loss: float = 1.0) -> StepTaken:
    return StepTaken(
        branch="main",
        step=number,
        started_at=float(number),
        finished_at=number + 0.5,
        lr=0.1,
        loss=loss,
        grad_norm=2.0,
        numbers=np.arange(number),
        mix=MixStatus({"old": 1.0}, {"old": 1.0}),
    )


def losses(engine: Engine) -> dict[int, float | None]:
    with read(engine) as session:
        rows = session.execute(select(Metric.step, Metric.value).where(Metric.name == "loss"))
        return {row.step: row.value for row in rows}


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Hold the database's write lock, as a hung writer would."""
    path = settings.data / "stovetop.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_steps_and_their_metrics_arrive(engine: Engine, journal: Journal) -> None:
    journal.write(*(step(number) for number in range(1, 60)))
    assert journal.flush(5.0)
    assert list(losses(engine)) == list(range(1, 60))
    with read(engine) as session:
        run = session.get_one(Run, "run")
    assert (run.state, run.step, run.lr) == ("running", 59, 0.1)


def test_a_step_taken_again_replaces_its_own_numbers(engine: Engine, journal: Journal) -> None:
    journal.write(step(1, loss=3.0), step(2, loss=2.0), step(1, loss=1.0))
    assert journal.flush(5.0)
    assert losses(engine) == {1: 1.0, 2: 2.0}


def test_a_loss_that_is_not_a_number_is_not_hidden(engine: Engine, journal: Journal) -> None:
    journal.write(step(1, loss=math.nan), step(2, loss=math.inf))
    assert journal.flush(5.0)
    assert losses(engine) == {1: None, 2: math.inf}


def test_writing_does_not_wait_while_the_database_is_locked(
    settings: Settings, lease: Lease
) -> None:
    engine = open_engine(settings.resolved_database_url)
    with Journal(engine, lease) as journal:
        with locked(settings):
            journal.write(*(step(number) for number in range(1, 1001)))
            assert not journal.flush(0.05)
        assert journal.flush(20.0)
    assert len(losses(engine)) == 1000
    engine.dispose()


def test_closing_writes_what_is_left(engine: Engine, lease: Lease) -> None:
    with Journal(engine, lease) as journal:
        journal.write(step(1))
    assert losses(engine) == {1: 1.0}


def test_closing_waits_out_a_locked_database(settings: Settings, lease: Lease) -> None:
    engine = open_engine(settings.resolved_database_url, busy_timeout_s=0.0)
    journal = Journal(engine, lease)
    closing = threading.Thread(target=journal.close)
    with locked(settings):
        journal.write(*(step(number) for number in range(1, 101)))
        closing.start()
        closing.join(0.5)
        assert closing.is_alive()
    closing.join(20.0)
    assert len(losses(engine)) == 100
    engine.dispose()


def test_after_a_take_over_nothing_more_is_written(engine: Engine, journal: Journal) -> None:
    with write(engine) as session:
        session.execute(update(Run).values(fence=Run.fence + 1))
    journal.write(step(1))
    assert not journal.flush(5.0)
    assert losses(engine) == {}
    with pytest.raises(LeaseLost):
        journal.write(step(2))


@dataclass(frozen=True)
class Gate:
    """An entry that holds the journal's transaction open until it is told to go on."""

    is_urgent: ClassVar[bool] = True
    reached: threading.Event
    opened: threading.Event

    def write(self, _session: Session, _run_id: str) -> None:
        self.reached.set()
        assert self.opened.wait(5.0)


def test_what_is_stored_is_a_prefix_of_what_happened(engine: Engine, journal: Journal) -> None:
    gate = Gate(threading.Event(), threading.Event())
    journal.write(*(step(number) for number in range(1, 31)), gate, step(31))
    assert gate.reached.wait(5.0)
    stored = list(losses(engine))
    gate.opened.set()
    assert stored == list(range(1, len(stored) + 1))
    assert len(stored) < 31
    assert journal.flush(5.0)
    assert list(losses(engine)) == list(range(1, 32))


def test_the_end_of_a_run_expires_its_commands(engine: Engine, journal: Journal) -> None:
    with write(engine) as session:
        command_id = ask(session, "pause").command_id
    journal.write(RunEnded(1.0, "failed", "the disk is full"))
    assert journal.flush(5.0)
    with read(engine) as session:
        assert session.get_one(Command, command_id).state == "expired"
        run = session.get_one(Run, "run")
    assert (run.state, run.error) == ("failed", "the disk is full")


def test_an_entry_that_can_not_be_written_stops_the_run_loudly(
    engine: Engine, journal: Journal
) -> None:
    journal.write(CommandSettled(None))  # type: ignore[arg-type]  # a bug of ours, on purpose
    assert not journal.flush(5.0)
    with pytest.raises(AttributeError):
        journal.write(step(1))
    with read(engine) as session:
        assert session.scalar(select(Step)) is None
