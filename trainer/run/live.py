"""A live run: where it stands, and how it is saved and restored as a whole.

In: what was found when the run was taken over. Out: its position, for checkpoints and for its row;
`apply` changes it by `save`, `restore` and the parts. All of it belongs to the training thread.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

from transformers import Trainer

from ingest.ids import content_id
from trainer.checkpoints.copies import Memory
from trainer.checkpoints.exchange import Exchange, read_beside
from trainer.checkpoints.folder import (
    Manifest,
    Places,
    RunPosition,
    Unfinished,
    WriteState,
    begin_checkpoint,
    read_manifest,
)
from trainer.checkpoints.hf_state import copy_state, lay_down, restore_state
from trainer.checkpoints.register import Register
from trainer.commands.references import CommandRefused
from trainer.commands.undoing import Undoables
from trainer.family import Family
from trainer.journal.entries import RunMoved
from trainer.journal.journal import Journal
from trainer.journal.lease import Lease
from trainer.journal.lineage import CheckpointSaved
from trainer.loop.interactive import frozen_of, live_schedule, model_of
from trainer.loop.modules import names_of, parameters_named
from trainer.ranks.alone import Ranks
from trainer.run.orders import Copy, Restore, Verify
from trainer.run.saving import Saver, Saving
from trainer.run.supply import Repeat, Supply


class RestoreFailed(RuntimeError):
    """A checkpoint was restored half way: the run can't go on, but can be started again."""


class Steered(Protocol):
    """What a command changes, on every rank."""

    run_id: str
    family: Family
    supply: Supply
    is_paused: bool


@dataclass(kw_only=True)
class LiveRun:
    """`tips`: the last step of each branch; `command_number`: of the last command settled."""

    run_id: str
    branch: str
    tips: dict[str, int]
    register: Register
    supply: Supply
    journal: Journal
    lease: Lease
    family: Family
    runs_path: Path
    undoables: Undoables
    saver: Saver
    ranks: Ranks
    memory: Memory = field(default_factory=Memory)
    command_number: int = 0
    is_paused: bool = False
    is_ending: bool = False

    def position(self, trainer: Trainer) -> RunPosition:
        """Where the run stands between two steps."""
        rates = live_schedule(trainer).rates
        return RunPosition(
            run_id=self.run_id,
            branch=self.branch,
            step=trainer.state.global_step,
            lr=rates[0],
            rates=tuple(rates),
            max_grad_norm=trainer.args.max_grad_norm,
            frozen=tuple(frozen_names(trainer)),
            mix=self.supply.mix,
            adoption=self.supply.adoption,
            command_number=self.command_number,
            is_paused=self.is_paused,
            hold_until=self.supply.hold_until,
            stream=self.supply.state_dict(),
        )

    def moved(self, trainer: Trainer, state: str | None = None) -> RunMoved:
        """The run's row as it should read now."""
        return RunMoved(
            at=time.time(),
            state=state or ("paused" if self.is_paused else "running"),
            branch=self.branch,
            step=trainer.state.global_step,
            lr=live_schedule(trainer).rates[0],
            mix_name=self.supply.mix.name,
            mix_version=self.supply.mix.version,
        )

    def save(
        self,
        trainer: Trainer,
        *,
        name: str | None = None,
        note: str = "",
        keep: bool = False,
        leaving: Collection[int] = (),
    ) -> Saving:
        """Copy this very moment's state, to be written and verified beside the next steps.

        What is at the addresses `leaving` is not copied, so they must be left before the next step.

        Raises CommandRefused for a name that is taken, CheckpointFailed, or LeaseLost.
        """
        self.lease.assert_not_lost()
        step, register = trainer.state.global_step, self.register
        coming = [saving.name for saving in self.saver.under_way]
        free_name = register.free_name(self.branch, step, coming)
        name = register.check_name(name, coming) if name else free_name
        self.saver.wait_for_room()
        folder = self.runs_path / self.run_id / self.branch / f"step-{step}"
        unfinished = self.ranks.together(Copy(), lambda: self._copy(trainer, folder, leaving))
        path = str(unfinished.path.relative_to(self.runs_path))
        listed = CheckpointSaved(
            checkpoint_id=content_id(self.run_id, path),
            branch=self.branch,
            step=step,
            lr=live_schedule(trainer).rates[0],
            name=name,
            note=note,
            path=path,
            digest="",
            num_bytes=0,
            is_kept=keep,
            at=time.time(),
        )
        return self.saver.begin(unfinished, listed)

    def _copy(self, trainer: Trainer, folder: Path, leaving: Collection[int]) -> Unfinished:
        copied = copy_state(trainer, self.ranks, self.memory, leaving)

        def lay_down_here(temporary: Path) -> WriteState:
            self.family.write_config(temporary)
            write = lay_down(trainer, copied, temporary)

            def write_and_let_go() -> Places:
                try:
                    return write()
                finally:
                    self.memory.give_back((copied.model, copied.optimizer))

            return write_and_let_go

        return begin_checkpoint(folder, self.position(trainer), lay_down_here)

    def manifest(self, checkpoint: CheckpointSaved) -> Manifest:
        """What a checkpoint says of itself. Raises CheckpointDamaged."""
        return read_manifest(self.runs_path / checkpoint.path, checkpoint.digest)

    def read(
        self, trainer: Trainer, checkpoint: CheckpointSaved, manifest: Manifest
    ) -> Exchange | None:
        """Every rank reads all files beside what is live; nothing has changed then.

        Raises CheckpointDamaged or RankFailed.
        """
        folder = self.runs_path / checkpoint.path
        return self.ranks.together(
            Verify(path=checkpoint.path, digest=checkpoint.digest),
            lambda: read_beside(trainer, folder, manifest, self.memory),
        )

    def leave(
        self,
        trainer: Trainer,
        checkpoint: CheckpointSaved,
        position: RunPosition,
        repeats: Sequence[Repeat],
        exchange: Exchange | None,
    ) -> Saving:
        """Save the tip, in the memory that is exchanged where any is, and restore a checkpoint.

        Raises what `save` and `restore` raise.
        """
        note = f"the tip before the rollback to {checkpoint.name}"
        tip = self.save(trainer, note=note, leaving=exchange.leaving if exchange else ())
        try:
            self.restore(trainer, checkpoint, position, repeats, exchange)
        except BaseException:
            self.saver.wait()  # what it writes may be live still
            self.memory.clear()  # and may have been given back
            raise
        return tip

    def restore(
        self,
        trainer: Trainer,
        checkpoint: CheckpointSaved,
        position: RunPosition,
        repeats: Sequence[Repeat],
        exchange: Exchange | None = None,
    ) -> None:
        """Go back to a checkpoint that was read: model, optimizer, schedule, RNG, and stream.

        What is frozen there is frozen from then on, and nothing else.

        Raises OperationalError, with nothing changed, where the adoptions can't be read, and
        RestoreFailed when it breaks half way.
        """
        self.supply.restore(position, repeats)
        try:
            self.ranks.together(
                Restore(path=checkpoint.path, position=position),
                lambda: restore_trainer(
                    trainer, self.runs_path / checkpoint.path, position, exchange
                ),
            )
        except Exception as error:
            raise RestoreFailed(f"checkpoint {checkpoint.name!r}: {error}") from error

    def open_branch(self, name: str, step: int) -> None:
        """Go on under another name, from a step on."""
        self.branch = name
        self.tips[name] = step
        self.undoables = Undoables()

    def free_branch(self, wanted: str | None) -> str:
        """The wanted name, or a made-up one. Raises CommandRefused when it is taken."""
        if wanted is None:
            return next(name for n in count(1) if (name := f"rollback-{n}") not in self.tips)
        if wanted in self.tips:
            raise CommandRefused("branch", f"the run has a branch {wanted!r}; choose another name")
        return wanted


def restore_trainer(
    trainer: Trainer, folder: Path, position: RunPosition, exchange: Exchange | None
) -> None:
    """Go back to a checkpoint with everything that the trainer holds."""
    restore_state(trainer, folder, exchange)
    trainer.args.max_grad_norm = position.max_grad_norm
    frozen_of(trainer).set(parameters_named(model_of(trainer), position.frozen))


def frozen_names(trainer: Trainer) -> list[str]:
    """What stands still, in the fewest names."""
    return names_of(model_of(trainer), frozen_of(trainer).parameters)
