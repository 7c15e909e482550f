"""A run's lineage as entries of its journal: checkpoints, branches, adoptions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import update
from sqlalchemy.orm import Session

from trainer.mix.adoptions import write_adoption
from trainer.mix.cohorts import SliceChange
from trainer.tables import Adoption, Branch, Checkpoint


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A verified checkpoint, to be listed from now on."""

    is_urgent: ClassVar[bool] = True
    checkpoint_id: str
    branch: str
    step: int
    lr: float
    name: str
    note: str
    path: str
    digest: str
    num_bytes: int
    is_kept: bool
    at: float

    def write(self, session: Session, run_id: str) -> None:
        """Insert or replace the checkpoint's row."""
        session.merge(
            Checkpoint(
                checkpoint_id=self.checkpoint_id,
                run_id=run_id,
                branch=self.branch,
                step=self.step,
                lr=self.lr,
                name=self.name,
                note=self.note,
                path=self.path,
                digest=self.digest,
                num_bytes=self.num_bytes,
                is_kept=self.is_kept,
                created_at=self.at,
                removed_at=None,
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
