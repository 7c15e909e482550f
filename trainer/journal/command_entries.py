"""What became of commands, as entries of a run's journal."""

from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy.orm import Session

from trainer.commands import queue as command_queue
from trainer.commands.queue import Settlement
from trainer.tables import Evaluation


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
