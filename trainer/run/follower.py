"""Any rank but the first: it trains, and changes at a boundary as rank 0 says.

In: orders, between two steps. Out: the same change here, or the reason why not. It takes no
decision and writes nothing: no lease, no inbox, no journal, no checkpoint. It reads SQL for what is
recorded (where samples lie, what a checkpoint had adopted), and the files of a checkpoint.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import assert_never

from transformers import Trainer

from trainer.checkpoints.copies import Memory
from trainer.checkpoints.exchange import Exchange, read_beside
from trainer.checkpoints.folder import read_manifest
from trainer.checkpoints.hf_state import copy_state
from trainer.family import Family, Tensors
from trainer.loop.observed import ObservedStep
from trainer.mix.sampler import NothingToDraw
from trainer.ranks.group import Other
from trainer.run.live import restore_trainer
from trainer.run.orders import (
    Adopt,
    Copy,
    End,
    Judge,
    PutInForce,
    Restore,
    Verify,
    order_of,
)
from trainer.run.rerun import put_in_force
from trainer.run.supply import Supply


@dataclass
class FollowedRun:
    """A run as far as a rank that follows knows it."""

    run_id: str
    family: Family
    supply: Supply
    runs_path: Path
    is_paused: bool = False


class Follower:
    """Stands where rank 0 has its `Boundary`."""

    def __init__(self, run: FollowedRun, ranks: Other) -> None:
        self.outcome = "stopped"
        self.observed = ObservedStep(ranks)
        self._run = run
        self._ranks = ranks
        self._is_over = False
        self._exchange: Exchange | None = None  # of the checkpoint that was verified last

    @property
    def is_over(self) -> bool:
        """Whether rank 0 has ended the run."""
        return self._is_over

    def begin(self) -> None:
        """Wait until rank 0 has put the run together, or given it up."""
        self._ranks.listen(self._note_the_end)

    def _note_the_end(self, message: bytes) -> None:
        end = order_of(message)
        assert isinstance(end, End)
        self._is_over = True

    def before_first_step(self, trainer: Trainer) -> None:
        """Stand where rank 0 does."""
        self._listen(trainer)

    def after_step(self, trainer: Trainer) -> None:
        """Do what rank 0 says, if it says anything."""
        self.observed.finish("", trainer.state.global_step, self._run.supply.status)
        if self._ranks.is_announced():
            self._listen(trainer)
        self.observed.begin(0.0, trainer.state.global_step + 1)

    def next_step(self, trainer: Trainer) -> list[Tensors]:
        """This rank's share of the next step; nothing once the run ends."""
        while not self._is_over:
            with suppress(NothingToDraw):
                drawn = self._run.supply.draw(trainer.args.gradient_accumulation_steps)
                self.observed.take_batch(drawn.numbers)
                return drawn.micro_batches
            self._listen(trainer)
        return []

    def save(self, trainer: Trainer) -> None:
        """The loop wants a checkpoint on every rank."""
        self._listen(trainer)

    def evaluated(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Rank 0 records it."""

    def finish(self, trainer: Trainer) -> None:
        """The loop has ended; where somebody's callback ended it, rank 0 ends the run."""
        if not self._is_over:
            self._listen(trainer)

    def _listen(self, trainer: Trainer) -> None:
        self._ranks.listen(partial(self._carry_out, trainer))
        if self._is_over:
            trainer.control.should_training_stop = True

    def _carry_out(self, trainer: Trainer, message: bytes) -> None:
        run = self._run
        match order_of(message):
            case PutInForce() as again:
                put_in_force(again, run, trainer)
            case Adopt() as adopt:
                run.supply.take(adopt.plan)
            case Copy():
                copy_state(trainer, self._ranks, memory=None)
            case Verify() as verify:
                folder = run.runs_path / verify.path
                manifest = read_manifest(folder, verify.digest)
                self._exchange = read_beside(trainer, folder, manifest, Memory())
            case Restore() as restore:
                run.supply.restore(restore.position, ())
                folder = run.runs_path / restore.path
                restore_trainer(trainer, folder, restore.position, self._exchange)
                self._exchange = None
            case Judge():
                trainer.evaluate()
            case End() as end:
                self.outcome, self._is_over = end.outcome, True
            case order:
                assert_never(order)
