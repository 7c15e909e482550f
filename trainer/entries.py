"""What a run did, as entries of its journal: each knows how to write itself into SQL.

In: facts of the training thread, frozen. Out: rows, in the journal's transaction. Guaranteed: to
write an entry twice is to write it once, so that steps run again after a crash find their own
rows; a metric that is not a number is stored as NULL and never hidden.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from trainer import command_queue
from trainer.adoptions import write_adoption
from trainer.cohorts import SliceChange
from trainer.command_queue import Settlement
from trainer.tables import Adoption, Branch, Checkpoint, Evaluation, Run


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
    """An optimizer step: `samples` are the packed numbers, `metrics` by name."""

    is_urgent: ClassVar[bool] = False
    branch: str
    step: int
    started_at: float
    finished_at: float
    lr: float
    samples: bytes
    metrics: Mapping[str, float]

    def write(self, session: Session, run_id: str) -> None:
        """Upsert the step and its metrics, and move the run on."""
        key = {"run_id": run_id, "branch": self.branch, "step": self.step}
        taken = {"started_at": self.started_at, "lr": self.lr, "samples": self.samples}
        session.execute(_UPSERT_STEP, key | taken)
        rows = [key | {"name": name, "value": _storable(v)} for name, v in self.metrics.items()]
        if rows:
            session.execute(_UPSERT_METRIC, rows)
        values = {"state": "running", "step": self.step, "lr": self.lr}
        _update_run(session, run_id, self.finished_at, branch=self.branch, **values)


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
class RunStarted:
    """A process has taken the run over and puts it together."""

    is_urgent: ClassVar[bool] = True
    at: float

    def write(self, session: Session, run_id: str) -> None:
        """Update the run's row."""
        _update_run(session, run_id, self.at, state="starting", error=None)


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
class CommandStarted:
    """A command is being applied."""

    is_urgent: ClassVar[bool] = True
    command_id: str

    def write(self, session: Session, _run_id: str) -> None:
        """Update the command's row."""
        command_queue.start_applying(session, self.command_id)


@dataclass(frozen=True, slots=True)
class CommandSettled:
    """A command was applied, rejected, or failed."""

    is_urgent: ClassVar[bool] = True
    settlement: Settlement

    def write(self, session: Session, _run_id: str) -> None:
        """Update the command's row."""
        command_queue.settle(session, self.settlement)


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A verified checkpoint, to be listed from now on."""

    is_urgent: ClassVar[bool] = True
    checkpoint_id: str
    branch: str
    step: int
    name: str
    note: str
    path: str
    digest: str
    num_bytes: int
    at: float

    def write(self, session: Session, run_id: str) -> None:
        """Insert or replace the checkpoint's row."""
        session.merge(
            Checkpoint(
                checkpoint_id=self.checkpoint_id,
                run_id=run_id,
                branch=self.branch,
                step=self.step,
                name=self.name,
                note=self.note,
                path=self.path,
                digest=self.digest,
                num_bytes=self.num_bytes,
                created_at=self.at,
            )
        )


@dataclass(frozen=True, slots=True)
class BranchOpened:
    """A rollback's new line, from a checkpoint on."""

    is_urgent: ClassVar[bool] = True
    name: str
    parent: str
    from_step: int
    from_checkpoint: str
    from_adoption: int
    at: float

    def write(self, session: Session, run_id: str) -> None:
        """Insert or replace the branch's row."""
        session.merge(
            Branch(
                run_id=run_id,
                name=self.name,
                parent=self.parent,
                from_step=self.from_step,
                from_checkpoint=self.from_checkpoint,
                from_adoption=self.from_adoption,
                created_at=self.at,
            )
        )


@dataclass(frozen=True, slots=True)
class AdoptionTaken:
    """A revision of the buffer was taken over."""

    is_urgent: ClassVar[bool] = False
    number: int
    branch: str
    effective_step: int
    revision: int
    changes: Mapping[str, SliceChange]
    at: float

    def write(self, session: Session, run_id: str) -> None:
        """Write the adoption and what it did to each slice."""
        adoption = Adoption(
            run_id=run_id,
            number=self.number,
            branch=self.branch,
            effective_step=self.effective_step,
            revision=self.revision,
            adopted_at=self.at,
        )
        write_adoption(session, adoption, self.changes)


@dataclass(frozen=True, slots=True)
class AdoptionFollowed:
    """A branch that holds its parent's data has taken one of the parent's later adoptions."""

    is_urgent: ClassVar[bool] = False
    branch: str
    number: int

    def write(self, session: Session, run_id: str) -> None:
        """Let the branch leave its parent's line after this adoption."""
        session.execute(
            update(Branch)
            .where(Branch.run_id == run_id, Branch.name == self.branch)
            .values(from_adoption=self.number)
        )


@dataclass(frozen=True, slots=True)
class EvaluationAsked:
    """A checkpoint waits to be judged on a suite."""

    is_urgent: ClassVar[bool] = True
    evaluation_id: str
    checkpoint_id: str
    suite: str
    command_id: str
    at: float

    def write(self, session: Session, run_id: str) -> None:
        """Insert the evaluation, unless it is there."""
        if session.get(Evaluation, self.evaluation_id) is not None:
            return
        session.add(
            Evaluation(
                evaluation_id=self.evaluation_id,
                run_id=run_id,
                checkpoint_id=self.checkpoint_id,
                suite=self.suite,
                command_id=self.command_id,
                state="waiting",
                attempts=0,
                created_at=self.at,
            )
        )


def _update_run(session: Session, run_id: str, at: float, **values: object) -> None:
    session.execute(update(Run).where(Run.run_id == run_id).values(updated_at=at, **values))


def _storable(value: float) -> float | None:
    return None if math.isnan(value) else value


_UPSERT_STEP = text(
    "INSERT INTO steps (run_id, branch, step, started_at, lr, samples) "
    "VALUES (:run_id, :branch, :step, :started_at, :lr, :samples) "
    "ON CONFLICT (run_id, branch, step) DO UPDATE SET "
    "started_at = excluded.started_at, lr = excluded.lr, samples = excluded.samples"
)
_UPSERT_METRIC = text(
    "INSERT INTO metrics (run_id, branch, name, step, value) "
    "VALUES (:run_id, :branch, :name, :step, :value) "
    "ON CONFLICT (run_id, branch, name, step) DO UPDATE SET value = excluded.value"
)
