"""The watch over a run: what it makes of recorded steps, over rollbacks, retries and restarts."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.database import read
from tests.trainer.asking import metric
from tests.trainer.readings import noisy
from trainer.health.watch import HealthWatch
from trainer.journal.entries import Entry, RunStarved, StepTaken
from trainer.journal.journal import Journal
from trainer.journal.lease import Lease
from trainer.journal.lineage import BranchOpened
from trainer.mix.sampler import MixStatus
from trainer.tables import HealthSignal, Run, Step

Told = list[tuple[str, int, str, str]]


def step(number: int, loss: float, branch: str = "main") -> StepTaken:
    return StepTaken(
        branch=branch,
        step=number,
        started_at=float(number),
        finished_at=number + 0.1,
        lr=0.1,
        loss=loss,
        grad_norm=1.0,
        numbers=np.arange(2),
        mix=MixStatus({"old": 1.0}, {"old": 1.0}),
    )


def steps(first: int, last: int, *, up: float = 0.0, branch: str = "main") -> list[Entry]:
    count = last - first + 1
    return [step(each.step, each.loss + up, branch) for each in noisy(first, count, first=first)]


def fork(name: str, from_step: int, parent: str = "main") -> BranchOpened:
    return BranchOpened(name, parent, from_step, f"{parent}-{from_step}", 0, at=1.0)


def carry(engine: Engine, lease: Lease, *entries: Entry) -> None:
    """What one process writes."""
    with Journal(engine, lease, HealthWatch()) as journal:
        journal.write(*entries)
        assert journal.flush(20.0)


def told(engine: Engine) -> Told:
    query = select(HealthSignal).order_by(HealthSignal.branch, HealthSignal.step, HealthSignal.name)
    with read(engine) as session:
        return [(row.branch, row.step, row.name, row.state) for row in session.scalars(query)]


def on_now(engine: Engine) -> str:
    with read(engine) as session:
        return session.get_one(Run, "run").signals


def test_a_loss_that_is_no_number_is_a_row_at_its_step(engine: Engine, lease: Lease) -> None:
    carry(engine, lease, step(1, 1.0), step(2, math.nan))
    assert told(engine) == [("main", 2, "not_finite", "started")]
    assert on_now(engine) == "not_finite"
    assert metric(engine, "health:not_finite") == {2: None}


def test_a_signal_is_a_metric_as_long_as_it_is_on(engine: Engine, lease: Lease) -> None:
    carry(engine, lease, *steps(1, 50), step(51, 30.0), *steps(52, 70))
    assert told(engine) == [
        ("main", 51, "loss_spike", "started"),
        ("main", 59, "loss_spike", "ended"),
    ]
    values = metric(engine, "health:loss_spike")
    assert list(values) == list(range(51, 59))
    assert values[51] == 30.0
    assert on_now(engine) == ""


def test_after_a_rollback_the_state_is_that_of_the_checkpoints_step(
    engine: Engine, lease: Lease
) -> None:
    """The noise up to step 60 is known on the branch; what came after is not."""
    risen = steps(61, 120, up=2.0)
    carry(engine, lease, *steps(1, 60), *risen, fork("b", 60), *steps(61, 70, branch="b"))
    assert [row for row in told(engine) if row[0] == "b"] == []
    assert on_now(engine) == ""
    carry(engine, lease, step(71, 30.0, "b"))
    assert told(engine)[0] == ("b", 71, "loss_spike", "started")


def test_a_signal_that_was_on_at_the_checkpoint_is_on_on_the_branch(
    engine: Engine, lease: Lease
) -> None:
    entries = [*steps(1, 60), *steps(61, 80, up=2.0), fork("b", 70), *steps(71, 72, branch="b")]
    carry(engine, lease, *entries)
    assert "divergence" in on_now(engine)
    carry(engine, lease, *steps(73, 90, branch="b"))
    ended = [row for row in told(engine) if row[0] == "b" and row[2] == "divergence"]
    assert [row[3] for row in ended] == ["ended"]


def test_a_new_process_goes_on_where_the_last_one_was(engine: Engine, lease: Lease) -> None:
    carry(engine, lease, *steps(1, 60))
    carry(engine, lease, *steps(61, 70, up=2.0))
    assert "divergence" in on_now(engine)


def test_steps_that_are_taken_again_say_what_they_said(engine: Engine, lease: Lease) -> None:
    entries = [*steps(1, 60), *steps(61, 75, up=2.0)]
    carry(engine, lease, *entries)
    before = told(engine)
    carry(engine, lease, *entries[50:])
    assert told(engine) == before
    assert len(before) >= 2


def test_what_a_dead_process_said_of_a_slow_step_goes_with_it(engine: Engine, lease: Lease) -> None:
    def slow(entry: Entry) -> Entry:
        assert isinstance(entry, StepTaken)
        return replace(entry, finished_at=entry.started_at + 5.0)

    carry(engine, lease, *steps(1, 100), *map(slow, steps(101, 130)))
    assert "throughput_drop" in on_now(engine)
    carry(engine, lease, *steps(101, 130))
    assert (told(engine), on_now(engine)) == ([], "")


class Unlucky(HealthWatch):
    """The database is lost just after it has seen the first transactions."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def see(self, session: Session, run_id: str, entries: Sequence[Entry]) -> None:
        super().see(session, run_id, entries)
        if self.failures:
            self.failures -= 1
            raise OperationalError("COMMIT", None, ConnectionError("the database is away"))


def test_a_transaction_that_is_tried_again_is_judged_once(engine: Engine, lease: Lease) -> None:
    with Journal(engine, lease, Unlucky(failures=2)) as journal:
        journal.write(*steps(1, 50), step(51, 30.0), *steps(52, 53))
        assert journal.flush(20.0)
    assert told(engine) == [("main", 51, "loss_spike", "started")]
    assert on_now(engine) == "loss_spike"


def test_an_error_of_the_watch_ends_no_run(engine: Engine, lease: Lease) -> None:
    """A step of a branch that was never opened: a bug of ours, on purpose."""
    carry(engine, lease, step(1, 1.0), step(2, math.nan, "nowhere"))
    with read(engine) as session:
        assert len(session.scalars(select(Step)).all()) == 2


def test_a_run_that_waits_for_samples_says_so_before_any_step_comes(
    engine: Engine, lease: Lease
) -> None:
    starved = RunStarved("main", 1, 2.0, "no sample in the mix of coming")
    carry(engine, lease, step(1, 1.0), starved, starved)
    assert told(engine) == [("main", 1, "starvation", "started")]
