"""What an agent may do after a look: ask something of the run, wait, or be done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ask:
    """A command, with its reason."""

    kind: str
    args: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Wait:
    """Look again after so many steps."""

    steps: int


@dataclass(frozen=True)
class Done:
    """Nothing more is to be done, and why."""

    summary: str


Action = Ask | Wait | Done
