"""What a process that died had recorded beyond its last checkpoint, to be done again.

In: the checkpoint to go on from, the commands that had been applied after it, the last recorded
step. Out: what each of them had left in force, at the same steps, without records of their own;
with the adoptions that `supply` repeats, the steps run again are the recorded ones, bit for bit.
Only after the last of them are new commands received.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from transformers import Trainer

from trainer.checkpoints.folder import Manifest
from trainer.commands.kinds import AnyCommand, ResetParameters
from trainer.journal.lineage import CheckpointSaved
from trainer.run.aspects import restore_aspects
from trainer.run.live import LiveRun, Steered
from trainer.run.orders import PutInForce
from trainer.run.supply import Repeat
from trainer.run.tuning import reset_parameters


@dataclass(frozen=True)
class Recorded:
    """A command that had been applied, the first step under it, and what was after it."""

    number: int
    effective_step: int
    command: AnyCommand
    after: Mapping[str, Any]

    @property
    def again(self) -> PutInForce:
        """What is left of it for the steps after."""
        reset = self.command if isinstance(self.command, ResetParameters) else None
        return PutInForce(after=dict(self.after), number=self.number, reset=reset)


@dataclass(frozen=True)
class Origin:
    """What a run that is taken over goes on from."""

    checkpoint: CheckpointSaved
    manifest: Manifest
    repeats: Sequence[Repeat]


@dataclass
class Rerun:
    """Where to go on, and what to do again; nothing of both for a new run."""

    origin: Origin | None = None
    until_step: int = 0
    commands: deque[Recorded] = field(default_factory=deque)

    def start(self, run: LiveRun, trainer: Trainer) -> None:
        """Restore what the run goes on from."""
        if self.origin is None:
            return
        position = self.origin.manifest.position
        run.restore(trainer, self.origin.checkpoint, position, self.origin.repeats)
        run.command_number = position.command_number
        run.is_paused = position.is_paused

    def is_over(self, step: int) -> bool:
        """Whether everything that was recorded has been done again."""
        return step >= self.until_step

    def apply_due(self, run: LiveRun, trainer: Trainer) -> None:
        """Apply the recorded commands whose first step is the next one."""
        next_step = trainer.state.global_step + 1
        while self.commands and self.commands[0].effective_step <= next_step:
            recorded = self.commands.popleft()
            again = recorded.again
            run.ranks.together(again, partial(put_in_force, again, run, trainer))
            run.command_number = recorded.number


def put_in_force(again: PutInForce, run: Steered, trainer: Trainer) -> None:
    """Only what later steps depend on: a checkpoint that was saved is there, a rollback is done."""
    restore_aspects(run, trainer, again.after)
    if again.reset is not None:
        reset_parameters(again.reset, run, trainer, again.number)
