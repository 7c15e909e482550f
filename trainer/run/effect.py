"""What a command did to a run: the answer of whatever carries one out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.journal.entries import Entry


@dataclass(frozen=True, slots=True)
class Effect:
    """What a command changed; `entries` are committed with its settlement or not at all."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    entries: tuple[Entry, ...] = ()
