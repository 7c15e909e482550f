"""A live run: where it stands, and how it is saved and restored as a whole.

In: what was found when the run was taken over. Out: its position, for checkpoints and for its row;
`apply` changes it by `save`, `restore` and the parts. All of it belongs to the training thread.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

from transformers import Trainer

from ingest.ids import content_id
from trainer.checkpoints.copies import Memory
from trainer.checkpoints.folder import (
    Manifest,
    RunPosition,
    Unfinished,
    WriteState,
    begin_checkpoint,
    check_files,
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
    memories: list[Memory] = field(default_factory=list)  # of copies that have been written
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
        self, trainer: Trainer, *, name: str | None = None, note: str = "", keep: bool = False
    ) -> Saving:
        """Copy this very moment's state, to be written and verified beside the next steps.

        Raises CommandRefused for a name that is taken, CheckpointFailed, or LeaseLost.
        """
        self.lease.assert_not_lost()
        step, register = trainer.state.global_step, self.register
        coming = [saving.name for saving in self.saver.under_way]
        free_name = register.free_name(self.branch, step, coming)
        name = register.check_name(name, coming) if name else free_name
        self.saver.wait_for_room()
        folder = self.runs_path / self.run_id / self.branch / f"step-{step}"
        unfinished = self.ranks.together(Copy(), lambda: self._copy(trainer, folder))
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

    def _copy(self, trainer: Trainer, folder: Path) -> Unfinished:
        memory = self.memories.pop() if self.memories else Memory()
        position, copied = self.position(trainer), copy_state(trainer, self.ranks, memory)

        def lay_down_here(temporary: Path) -> WriteState:
            self.family.write_config(temporary)
            write = lay_down(trainer, copied, temporary)

            def write_and_let_go() -> None:
                write()
                self.memories.append(memory)

            return write_and_let_go

        return begin_checkpoint(folder, position, lay_down_here)

    def read(self, checkpoint: CheckpointSaved) -> Manifest:
        """A checkpoint's manifest, once the other ranks have checked all its files.

        Raises CheckpointDamaged or RankFailed.
        """
        return self.ranks.together(
            Verify(path=checkpoint.path, digest=checkpoint.digest),
            lambda: read_manifest(self.runs_path / checkpoint.path, checkpoint.digest),
        )

    def check(self, checkpoint: CheckpointSaved, manifest: Manifest) -> None:
        """Check all files of a checkpoint here. Raises CheckpointDamaged."""
        check_files(self.runs_path / checkpoint.path, manifest)

    def restore(
        self,
        trainer: Trainer,
        checkpoint: CheckpointSaved,
        position: RunPosition,
        repeats: Sequence[Repeat],
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
                lambda: restore_trainer(trainer, self.runs_path / checkpoint.path, position),
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


def restore_trainer(trainer: Trainer, folder: Path, position: RunPosition) -> None:
    """Go back to a checkpoint with everything that the trainer holds."""
    restore_state(trainer, folder)
    trainer.args.max_grad_norm = position.max_grad_norm
    frozen_of(trainer).set(parameters_named(model_of(trainer), position.frozen))


def frozen_names(trainer: Trainer) -> list[str]:
    """What stands still, in the fewest names."""
    return names_of(model_of(trainer), frozen_of(trainer).parameters)
