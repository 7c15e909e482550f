"""One slice of the mix: half of its draws show a change, half don't, under the slice's own limits.

Changes of its membership enter, rows to draw leave. The halves are two lanes (`passes`), balanced
as exactly as the slices are (`shares`); a lane that has nothing gives its half to the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.mix.cohorts import SliceChange
from trainer.mix.history import History
from trainer.mix.passes import Lane, LanePosition
from trainer.mix.shares import Ledger, without

LANES = {"change": 0.5, "plain": 0.5}


@dataclass(frozen=True)
class SlicePolicy:
    """A slice's own limits: one owner's share of its draws, and uses per sample and run.

    The cap holds in each lane, from its next pass on. Uses are counted through all slices, from the
    first mix with such a limit on; None is no limit.
    """

    max_share_per_user: float = 0.10
    max_uses: int | None = None


@dataclass(frozen=True)
class SlicePosition:
    """Where a slice stands: all that a draw changes in it."""

    credits: Mapping[str, float]
    lanes: Mapping[str, LanePosition]


class SliceSampler:
    """Draws rows of one slice; `seed` and `name` make its orders its own."""

    def __init__(self, history: History, seed: int, name: str) -> None:
        self._lanes = {lane: Lane(history, seed, name, lane) for lane in LANES}
        self._ledger = Ledger(LANES)
        self.limit(SlicePolicy())

    @property
    def policy(self) -> SlicePolicy:
        """The limits in force."""
        return self._policy

    def limit(self, policy: SlicePolicy) -> None:
        """Set the limits."""
        self._policy = policy
        for lane in self._lanes.values():
            lane.limit(policy.max_share_per_user, policy.max_uses)

    def adopt(self, number: int, change: SliceChange) -> None:
        """Let the added in, each to its lane, and take the removed out."""
        self._lanes["change"].adopt(number, change.where(change.is_change))
        self._lanes["plain"].adopt(number, change.where(~change.is_change))

    def next(self, step_start: int) -> int | None:
        """The row to draw now; None where the step, begun at that clock, holds all there is."""
        lanes = self._ledger.names
        while lanes:
            lane = self._ledger.owed(lanes)
            row = self._lanes[lane].next(step_start)
            if row is not None:
                self._ledger.charge(lane, lanes)
                return row
            lanes = without(lanes, lane)
        return None

    @property
    def position(self) -> SlicePosition:
        """Where the slice stands."""
        lanes = {name: lane.position for name, lane in self._lanes.items()}
        return SlicePosition(dict(self._ledger.credits), lanes)

    @position.setter
    def position(self, position: SlicePosition) -> None:
        self._ledger.credits = dict(position.credits)
        for name, lane in position.lanes.items():
            self._lanes[name].position = lane

    def state_dict(self) -> dict[str, Any]:
        """Limits, halves and lanes, JSON-able."""
        return {
            "max_share_per_user": self._policy.max_share_per_user,
            "max_uses": self._policy.max_uses,
            "credits": dict(self._ledger.credits),
            "lanes": {name: lane.state_dict() for name, lane in self._lanes.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was taken, over the same members."""
        self.limit(SlicePolicy(state["max_share_per_user"], state["max_uses"]))
        self._ledger.credits = dict(state["credits"])
        for name, lane in self._lanes.items():
            lane.load_state_dict(state["lanes"][name])
