"""A run's recorded adoptions: rows in, and for any point of any branch the adoptions it has seen.

The chain. Adoption numbers grow over the whole run, whatever its branches. A branch has seen its
own adoptions, and of its parent's those up to `branches.from_adoption`, the last one that its
checkpoint had seen, and so on up to the first branch. So a checkpoint that says (branch, adoption
number) names one list of adoptions, and folding that list gives every slice's members. The fork is
kept as a number, not as a step, because at one boundary a checkpoint may be written before or after
an adoption. A run that rolls back and adopts anew does so under a new number, on its new branch;
the old branch keeps its own.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from trainer.mix.cohorts import SliceChange, pack_numbers, unpack_numbers
from trainer.tables import Adoption, AdoptionChange, Branch


def last_number(session: Session, run_id: str) -> int:
    """The run's newest adoption; 0 for none."""
    newest = select(func.max(Adoption.number)).where(Adoption.run_id == run_id)
    return session.scalar(newest) or 0


def write_adoption(
    session: Session, adoption: Adoption, changes: Mapping[str, SliceChange]
) -> None:
    """Record one adoption with its change of each slice; a second time does no harm."""
    session.merge(adoption)
    for name, change in changes.items():
        row = AdoptionChange(
            run_id=adoption.run_id,
            number=adoption.number,
            slice=name,
            num_added=change.added.size,
            num_removed=change.removed.size,
            added=pack_numbers(change.added),
            owners=pack_numbers(change.owners),
            is_change=pack_numbers(change.is_change.astype(np.int64)),
            removed=pack_numbers(change.removed),
        )
        session.merge(row)


def seen_by(session: Session, run_id: str, branch: str, through: int) -> ColumnElement[bool]:
    """Which adoptions up to `through` a branch has seen, itself or by its ancestry.

    Raises sqlalchemy.exc.NoResultFound where the run has no such branch.
    """
    seen = []
    name: str | None = branch
    while name is not None:
        seen.append(and_(Adoption.branch == name, Adoption.number <= through))
        row = session.get_one(Branch, (run_id, name))
        name, through = row.parent, min(through, row.from_adoption)
    return and_(Adoption.run_id == run_id, or_(*seen))


def read_changes(
    session: Session, wanted: ColumnElement[bool]
) -> Iterator[tuple[str, SliceChange]]:
    """Slice and change of each of the wanted adoptions, in their order."""
    is_its = and_(
        Adoption.run_id == AdoptionChange.run_id, Adoption.number == AdoptionChange.number
    )
    query = (
        select(AdoptionChange)
        .join(Adoption, is_its)
        .where(wanted)
        .order_by(AdoptionChange.number, AdoptionChange.slice)
    )
    for row in session.scalars(query):
        yield (
            row.slice,
            SliceChange(
                added=unpack_numbers(row.added),
                owners=unpack_numbers(row.owners),
                is_change=unpack_numbers(row.is_change).astype(np.bool_),
                adopted=np.full(row.num_added, row.number),
                removed=unpack_numbers(row.removed),
            ),
        )
