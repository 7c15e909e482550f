"""What rank 0 has the other ranks do at a boundary, as JSON and never as a pickle.

In: what happens to the run. Out: bytes, and on the other ranks the same again. A command reaches
them as what it left in force, as one that was recorded does after a crash. An adoption comes whole,
for its plan is in no table yet and another look at SQL could give another one; what is recorded
already, each rank reads for itself.
"""

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from trainer.checkpoints.folder import RunPosition
from trainer.commands.kinds import ResetParameters
from trainer.mix.adopt import AdoptionPlan
from trainer.mix.cohorts import SliceChange, pack_numbers, unpack_numbers
from trainer.mix.permutation import IntArray


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True)

    def __call__(self) -> bytes:
        """As it travels; made only where somebody is told."""
        return self.model_dump_json().encode()


class PutInForce(_Order):
    """What a command left in force; `reset` is one that is done again, by its number."""

    kind: Literal["put_in_force"] = "put_in_force"
    after: dict[str, Any]
    number: int
    reset: ResetParameters | None = None


class Verify(_Order):
    """Read a checkpoint that is about to be restored."""

    kind: Literal["verify"] = "verify"
    path: str
    digest: str


class Restore(_Order):
    """Go back to a checkpoint that was verified."""

    kind: Literal["restore"] = "restore"
    path: str
    position: RunPosition


class Copy(_Order):
    """Give rank 0 what it lacks for a checkpoint of this moment."""

    kind: Literal["copy"] = "copy"


class Judge(_Order):
    """Take part in an evaluation."""

    kind: Literal["judge"] = "judge"


class End(_Order):
    """The run takes no more steps."""

    kind: Literal["end"] = "end"
    outcome: str


class Adopt(_Order):
    """Take over a revision of the buffer; `changes` are packed, by slice and column."""

    kind: Literal["adopt"] = "adopt"
    number: int
    after: int
    revision: int
    changes: dict[str, dict[str, str]]
    filters: dict[str, str]

    @property
    def plan(self) -> AdoptionPlan:
        """The plan that it was made of."""
        changes = {name: _unpacked(columns) for name, columns in self.changes.items()}
        return AdoptionPlan(self.number, self.after, self.revision, changes, self.filters)


Order = Annotated[
    PutInForce | Verify | Restore | Copy | Judge | End | Adopt, Field(discriminator="kind")
]

_ORDER: TypeAdapter[Order] = TypeAdapter(Order)


def adopt_order(plan: AdoptionPlan) -> bytes:
    """A plan as an order, as it travels."""
    order = Adopt(
        number=plan.number,
        after=plan.after,
        revision=plan.revision,
        changes={name: _packed(change) for name, change in plan.changes.items()},
        filters=dict(plan.filters),
    )
    return order()


def order_of(message: bytes) -> Order:
    """The order that was sent."""
    return _ORDER.validate_json(message)


def _packed(change: SliceChange) -> dict[str, str]:
    columns: Mapping[str, IntArray] = {
        "added": change.added,
        "owners": change.owners,
        "is_change": change.is_change.astype(np.int64),
        "adopted": change.adopted,
        "removed": change.removed,
    }
    return {
        name: base64.b64encode(pack_numbers(numbers)).decode() for name, numbers in columns.items()
    }


def _unpacked(columns: Mapping[str, str]) -> SliceChange:
    parts = {name: unpack_numbers(base64.b64decode(packed)) for name, packed in columns.items()}
    return SliceChange(
        added=parts["added"],
        owners=parts["owners"],
        is_change=parts["is_change"].astype(np.bool_),
        adopted=parts["adopted"],
        removed=parts["removed"],
    )
