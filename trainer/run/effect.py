"""What a command did to a run, and how that settles it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trainer.commands.inbox import Received
from trainer.commands.queue import Settlement
from trainer.journal.command_entries import CommandSettled
from trainer.journal.entries import Entry
from trainer.journal.lineage import CheckpointSaved
from trainer.run.saving import Saving


@dataclass(frozen=True, slots=True)
class Effect:
    """What a command changed; `entries` are committed with its settlement or not at all."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class OnceSaved:
    """The effect of a command that is carried out once a checkpoint is on the disk."""

    saving: Saving
    effect: Callable[[CheckpointSaved], Effect]


def applied(
    received: Received, effect: Effect, *, branch: str, effective_step: int
) -> tuple[Entry, ...]:
    """What a carried out command leaves in the journal."""
    settlement = Settlement(
        command_id=received.command_id,
        state="applied",
        at=time.time(),
        branch=branch,
        effective_step=effective_step,
        before=dict(effect.before),
        after=dict(effect.after),
    )
    return (*effect.entries, CommandSettled(settlement))


def unapplied(
    received: Received, state: Literal["rejected", "failed"], error: Exception, *, branch: str
) -> tuple[Entry, ...]:
    """What a command that changed nothing leaves in the journal."""
    settlement = Settlement(received.command_id, state, time.time(), branch, error=str(error))
    return (CommandSettled(settlement),)
