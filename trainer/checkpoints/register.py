"""The run's listed checkpoints in memory: what a rollback may name, without asking SQL.

In: what was listed when the run was taken over, then every checkpoint that it saves; its holder
alone writes any, so the register is complete. Out: a checkpoint by id or name, the newest of a
branch, names that are free.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import count

from sqlalchemy import select
from sqlalchemy.orm import Session

from trainer.commands.references import NAMES_SHOWN, CommandRefused, no_checkpoint
from trainer.journal.lineage import CheckpointSaved
from trainer.tables import Checkpoint


class Register:
    """Checkpoints in the order in which they were saved."""

    def __init__(self, saved: Iterable[CheckpointSaved]) -> None:
        self._saved = list(saved)

    def add(self, checkpoint: CheckpointSaved) -> None:
        """List one more."""
        self._saved.append(checkpoint)

    def remove(self, checkpoint_ids: Collection[str]) -> None:
        """These are not listed any more."""
        self._saved = [c for c in self._saved if c.checkpoint_id not in checkpoint_ids]

    def find(self, wanted: str) -> CheckpointSaved:
        """A checkpoint by its id or name. Raises CommandRefused when there is none."""
        for checkpoint in self._saved:
            if wanted in (checkpoint.checkpoint_id, checkpoint.name):
                return checkpoint
        newest = [checkpoint.name for checkpoint in self._saved[: -NAMES_SHOWN - 1 : -1]]
        raise no_checkpoint(wanted, newest)

    @property
    def paths(self) -> list[str]:
        """Where all of them are, relative to the runs folder."""
        return [checkpoint.path for checkpoint in self._saved]

    def newest_first(self, branch: str) -> Iterator[CheckpointSaved]:
        """A branch's checkpoints, the last one saved first."""
        return (saved for saved in reversed(self._saved) if saved.branch == branch)

    def of_step(self, branch: str, step: int) -> CheckpointSaved | None:
        """The newest checkpoint of one step, if it has any."""
        return next((c for c in self.newest_first(branch) if c.step == step), None)

    def check_name(self, name: str, coming: Collection[str] = ()) -> str:
        """The name, if no checkpoint has it or will have it. Raises CommandRefused otherwise."""
        if name in self._taken(coming):
            raise CommandRefused("name", f"the run has a checkpoint {name!r}; choose another name")
        return name

    def free_name(self, branch: str, step: int, coming: Collection[str] = ()) -> str:
        """`<branch>-<step>`, with a number after it where that is taken, or will be by `coming`."""
        taken = self._taken(coming)
        stem = f"{branch}-{step}"
        return next(
            name
            for attempt in count(1)
            if (name := stem if attempt == 1 else f"{stem}-{attempt}") not in taken
        )

    def _taken(self, coming: Collection[str]) -> set[str]:
        return {*coming, *(checkpoint.name for checkpoint in self._saved)}


def load_register(session: Session, run_id: str) -> Register:
    """The register of a run that is taken over."""
    rows = session.scalars(
        select(Checkpoint)
        .where(Checkpoint.run_id == run_id, Checkpoint.removed_at.is_(None))
        .order_by(Checkpoint.created_at)
    )
    return Register(
        CheckpointSaved(
            checkpoint_id=row.checkpoint_id,
            branch=row.branch,
            step=row.step,
            lr=row.lr,
            name=row.name,
            note=row.note,
            path=row.path,
            digest=row.digest,
            num_bytes=row.num_bytes,
            is_kept=row.is_kept,
            at=row.created_at,
        )
        for row in rows
    )
