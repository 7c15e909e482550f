"""What a run did, as entries of its journal: each knows how to write itself into SQL.

In: facts of the training thread, frozen. Out: rows, in the journal's transaction. Guaranteed: to
write an entry twice is to write it once, so that steps run again after a crash find their own
rows; a metric that is not a number is stored as NULL and never hidden. Here are the steps and the
run's state; `lineage` and `command_entries` have the others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from trainer.commands import queue as command_queue
from trainer.journal.metrics import step_metrics
from trainer.mix.cohorts import pack_numbers
from trainer.mix.permutation import IntArray
from trainer.mix.sampler import MixStatus
from trainer.tables import Run


class Entry(Protocol):
    """One fact. An urgent one is written at once, the others up to a tenth of a second later."""

    is_urgent: ClassVar[bool]

    def write(self, session: Session, run_id: str) -> None:
        """Write the rows; the journal commits."""


@dataclass(frozen=True, slots=True)
class Together:
    """Several facts of which the database never holds only a part."""

    is_urgent: ClassVar[bool] = True
    entries: tuple[Entry, ...]

    def write(self, session: Session, run_id: str) -> None:
        """Write each, in order."""
        for entry in self.entries:
            entry.write(session, run_id)


@dataclass(frozen=True, slots=True)
class StepTaken:
    """An optimizer step; `numbers` are its samples in draw order.

    Packing and naming happen in `write`, in the journal's thread: 0.2 ms less of every boundary.
    """

    is_urgent: ClassVar[bool] = False
    branch: str
    step: int
    started_at: float
    finished_at: float
    lr: float
    loss: float
    grad_norm: float | None
    numbers: IntArray
    mix: MixStatus
    update_ratio: float | None = None
    has_metrics: bool = True

    def write(self, session: Session, run_id: str) -> None:
        """Upsert the step and its metrics, and move the run on."""
        key = {"run_id": run_id, "branch": self.branch, "step": self.step}
        samples = pack_numbers(self.numbers)
        taken = {"started_at": self.started_at, "lr": self.lr, "samples": samples}
        session.execute(_UPSERT_STEP, key | taken)
        if self.has_metrics:
            rows = [key | {"name": name, "value": value} for name, value in self._metrics()]
            session.execute(_UPSERT_METRIC, rows)
        session.execute(_MOVE_RUN, key | {"lr": self.lr, "at": self.finished_at})

    def _metrics(self) -> Iterator[tuple[str, float | None]]:
        metrics = step_metrics(
            loss=self.loss,
            grad_norm=self.grad_norm,
            update_ratio=self.update_ratio,
            lr=self.lr,
            step_s=self.finished_at - self.started_at,
            mix=self.mix,
        )
        for name, value in metrics.items():
            yield name, None if math.isnan(value) else value


@dataclass(frozen=True, slots=True)
class Judged:
    """The trainer has evaluated its own model; metrics are named as Hugging Face does."""

    is_urgent: ClassVar[bool] = True
    branch: str
    step: int
    metrics: dict[str, float]

    def write(self, session: Session, run_id: str) -> None:
        """Upsert them as the step's."""
        key = {"run_id": run_id, "branch": self.branch, "step": self.step}
        for name, value in self.metrics.items():
            shown = None if math.isnan(value) else float(value)
            row = {"name": f"eval:{name.removeprefix('eval_')}", "value": shown}
            session.execute(_UPSERT_METRIC, [key | row])


@dataclass(frozen=True, slots=True)
class RunStarved:
    """No slice of the mix has a sample: the run waits after a step for one."""

    is_urgent: ClassVar[bool] = True
    branch: str
    step: int
    at: float
    reason: str

    def write(self, session: Session, run_id: str) -> None:
        """Show that the run lives; `health_watch` makes a signal of it."""
        _update_run(session, run_id, self.at)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A process has taken the run over and puts it together."""

    is_urgent: ClassVar[bool] = True
    at: float

    def write(self, session: Session, run_id: str) -> None:
        """Update the run's row."""
        _update_run(session, run_id, self.at, state="starting", error=None)


@dataclass(frozen=True, slots=True)
class RunMoved:
    """The run's state, branch, step, lr and mix after a boundary at which one of them changed."""

    is_urgent: ClassVar[bool] = True
    at: float
    state: str
    branch: str
    step: int
    lr: float
    mix_name: str
    mix_version: int

    def write(self, session: Session, run_id: str) -> None:
        """Update the run's row."""
        _update_run(
            session,
            run_id,
            self.at,
            state=self.state,
            branch=self.branch,
            step=self.step,
            lr=self.lr,
            mix_name=self.mix_name,
            mix_version=self.mix_version,
        )


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The end of this process's work on the run; what is still unsettled expires with it."""

    is_urgent: ClassVar[bool] = True
    at: float
    state: str
    error: str | None = None

    def write(self, session: Session, run_id: str) -> None:
        """Update the run's row and expire its commands, in one transaction."""
        _update_run(session, run_id, self.at, state=self.state, error=self.error)
        command_queue.expire_unsettled(session, run_id, self.at)


@dataclass(frozen=True, slots=True)
class RunLost:
    """A process of the job has died, and this one can't go on; what is pending waits for the next.

    It is as if this process had died, too, but that it can still say so.
    """

    is_urgent: ClassVar[bool] = True
    at: float
    reason: str

    def write(self, session: Session, run_id: str) -> None:
        """Update the run's row."""
        _update_run(session, run_id, self.at, state="lost", error=self.reason)


def _update_run(session: Session, run_id: str, at: float, **values: object) -> None:
    session.execute(update(Run).where(Run.run_id == run_id).values(updated_at=at, **values))


_UPSERT_STEP = text(
    "INSERT INTO steps (run_id, branch, step, started_at, lr, samples) "
    "VALUES (:run_id, :branch, :step, :started_at, :lr, :samples) "
    "ON CONFLICT (run_id, branch, step) DO UPDATE SET "
    "started_at = excluded.started_at, lr = excluded.lr, samples = excluded.samples"
)
# As text: an ORM statement takes 0.5 ms to make, more than the rest of a step's rows together.
_MOVE_RUN = text(
    "UPDATE runs SET state = 'running', branch = :branch, step = :step, lr = :lr, "
    "updated_at = :at WHERE run_id = :run_id"
)
_UPSERT_METRIC = text(
    "INSERT INTO metrics (run_id, branch, name, step, value) "
    "VALUES (:run_id, :branch, :name, :step, :value) "
    "ON CONFLICT (run_id, branch, name, step) DO UPDATE SET value = excluded.value"
)
