"""What a check finds: one thing that is wrong, where, and what mends it."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "shard_damaged",
    "shard_quarantined",
    "shard_sound_again",
    "place_wrong",
    "file_unknown",
    "episode_unplaced",
    "episode_incomplete",
    "events_unplaced",
    "events_lost",
    "session_miscounted",
    "counter_behind",
    "checkpoint_damaged",
]

_REPAIR = "stovetop verify --repair"
FIXES: dict[Kind, str] = {
    "shard_damaged": f"{_REPAIR} sets it apart and queues what it held to be made anew",
    "shard_quarantined": f"{_REPAIR} queues what it held to be made anew",
    "shard_sound_again": f"{_REPAIR} puts its samples back",
    "place_wrong": f"{_REPAIR} sets the shard apart and queues what it held to be made anew",
    "file_unknown": f"{_REPAIR} removes it",
    "episode_unplaced": f"{_REPAIR} queues it to be made anew",
    "episode_incomplete": f"{_REPAIR} queues it to be made anew",
    "events_unplaced": f"{_REPAIR} has the session cut again",
    "events_lost": f"restore a backup, or {_REPAIR} has the session cut again without them",
    "session_miscounted": f"{_REPAIR} counts again",
    "counter_behind": f"{_REPAIR} moves it on",
    "checkpoint_damaged": "restore its folder from a backup, or roll back to another checkpoint",
}

# How much was looked at, by noun.
Seen = Counter[str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `subject` is what `kind` is said of: an id, a path, a name."""

    kind: Kind
    subject: str
    detail: str

    @property
    def fix(self) -> str:
        """What to do about it."""
        return FIXES[self.kind]
