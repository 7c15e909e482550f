"""The mix sampler: which samples the next step draws. Pure: no clock, no files, no database.

Shares over slices, adoptions (what joined and left each slice) and a seed enter; sample numbers
leave, a step at a time. Guaranteed: shares are exact (`shares`), passes repeat and miss nothing
(`passes`), a sample removed by an adoption is never drawn after it, one that is in several slices
counts as drawn in all, and no step holds a sample twice. A slice that has nothing that the step
lacks gives its share to the others in proportion and is `starved`. Only when a step wants more than
all slices together hold do samples repeat in it: all of them once before one comes twice.

Shares count the draws that a slice supplied. The same adoptions and the same state continue with
the same numbers on any machine. The decision: one plain loop over the step's draws, 8 us each,
since a step takes many milliseconds and a loop can be read.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from trainer.mix.cohorts import SliceChange, pack_numbers, unpack_numbers
from trainer.mix.history import History, Stamp
from trainer.mix.permutation import IntArray
from trainer.mix.shares import Ledger, without
from trainer.mix.slice_sampler import SlicePolicy, SlicePosition, SliceSampler


class NothingToDraw(Exception):
    """No slice of the mix holds a sample that may be drawn."""


@dataclass(frozen=True)
class MixStatus:
    """Shares as asked and as drawn since the mix took effect; slices that lately had to pass."""

    wanted: Mapping[str, float]
    actual: Mapping[str, float]
    starved: tuple[str, ...] = ()


@dataclass(frozen=True)
class MixPosition:
    """Where a sampler stands: all that a draw changes, apart from the history's stamps."""

    credits: Mapping[str, float]
    num_drawn: Mapping[str, int]
    starved: tuple[str, ...]
    slices: Mapping[str, SlicePosition]


@dataclass(frozen=True, eq=False)
class Draw:
    """One step's samples, int64 in draw order, the mix's status after it, and how to undo it."""

    numbers: IntArray
    status: MixStatus
    before: MixPosition
    stamps: tuple[Stamp, ...]


class MixSampler:
    """Draws sample numbers by shares over slices; see the module.

    Raises ValueError as `shares.Ledger` does.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        seed: int,
        policies: Mapping[str, SlicePolicy] | None = None,
    ) -> None:
        self.seed = seed
        self.adoption = 0
        self._history = History()
        self._slices: dict[str, SliceSampler] = {}
        self.set_shares(shares, policies)

    def set_shares(
        self, shares: Mapping[str, float], policies: Mapping[str, SlicePolicy] | None = None
    ) -> None:
        """A new mix from the next draw on; passes go on where they are.

        A slice that `policies` does not name gets the default one.
        """
        self._ledger = Ledger(shares)
        self._num_drawn = dict.fromkeys(self._ledger.names, 0)
        self._starved: tuple[str, ...] = ()
        for name in self._ledger.names:
            policy = (policies or {}).get(name, SlicePolicy())
            if policy != self._slice(name).policy:
                self._slice(name).limit(policy)
            self._history.counts_uses |= policy.max_uses is not None

    def _slice(self, name: str) -> SliceSampler:
        if name not in self._slices:
            self._slices[name] = SliceSampler(self._history, self.seed, name)
        return self._slices[name]

    def adopt(self, number: int, changes: Mapping[str, SliceChange]) -> None:
        """Take over what the adoption of this number did to slices, in the mix or not.

        Raises ValueError where the number does not follow the last one.
        """
        if number <= self.adoption:
            raise ValueError(f"adoption {number} does not follow {self.adoption}; plan it again")
        self.adoption = number
        for name, change in changes.items():
            self._slice(name).adopt(number, change)

    @property
    def status(self) -> MixStatus:
        """The mix as it is doing."""
        num_draws = max(1, sum(self._num_drawn.values()))
        actual = {name: count / num_draws for name, count in self._num_drawn.items()}
        return MixStatus(self._ledger.proportions(self._ledger.names), actual, self._starved)

    def draw(self, num_samples: int) -> Draw:
        """The samples of one step, in draw order; raises NothingToDraw, having drawn nothing."""
        before = self._position()
        stamps: list[Stamp] = []
        step_start, names = self._history.clock, self._ledger.names
        self._starved = ()
        while len(stamps) < num_samples:
            row, names = self._next(names, step_start)
            if row is not None:
                stamps.append(self._history.draw(row))
            elif step_start == self._history.clock:
                self._take_back(before, stamps)
                raise NothingToDraw(f"no sample in the mix of {', '.join(self._ledger.names)}")
            else:  # the step holds all there is: from here on samples come again
                step_start, names = self._history.clock, self._ledger.names
        numbers = self._history.numbers[[stamp.row for stamp in stamps]]
        return Draw(numbers, self.status, before, tuple(stamps))

    def _next(self, names: tuple[str, ...], step_start: int) -> tuple[int | None, tuple[str, ...]]:
        """One row that the step lacks, and the slices that may still have another."""
        while names:
            name = self._ledger.owed(names)
            row = self._slices[name].next(step_start)
            if row is not None:
                self._ledger.charge(name, names)
                self._num_drawn[name] += 1
                return row, names
            names = without(names, name)
            if names and name not in self._starved:
                self._starved = (*self._starved, name)
        return None, names

    def undo(self, draw: Draw) -> None:
        """Take back the newest draw: the next one of that size gives the same samples.

        Draws go back newest first, as far as the last adoption or new mix.
        """
        self._take_back(draw.before, draw.stamps)

    def _take_back(self, before: MixPosition, stamps: Sequence[Stamp]) -> None:
        for stamp in reversed(stamps):
            self._history.undo(stamp)
        self._ledger.credits = dict(before.credits)
        self._num_drawn, self._starved = dict(before.num_drawn), before.starved
        for name, position in before.slices.items():
            self._slices[name].position = position

    def _position(self) -> MixPosition:
        slices = {name: self._slices[name].position for name in self._ledger.names}
        return MixPosition(dict(self._ledger.credits), dict(self._num_drawn), self._starved, slices)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the members, JSON-able; `from_state` continues it.

        About 700 bytes a slice; a bit a member more where slices overlap or an owner is capped.
        """
        return {
            "seed": self.seed,
            "adoption": self.adoption,
            "shares": self._ledger.shares,
            "credits": dict(self._ledger.credits),
            "num_drawn": dict(self._num_drawn),
            "starved": list(self._starved),
            "uses": self._packed_uses(),
            "slices": {name: part.state_dict() for name, part in sorted(self._slices.items())},
        }

    def _packed_uses(self) -> list[str] | None:
        if not self._history.counts_uses:
            return None
        return [base64.b64encode(pack_numbers(part)).decode() for part in self._history.used()]

    @classmethod
    def from_state(cls, state: Mapping[str, Any], members: Mapping[str, SliceChange]) -> Self:
        """Continue where `state_dict` was taken; `members` as its adoptions left them, folded."""
        sampler = cls(state["shares"], state["seed"])
        if state["uses"] is not None:
            packed = (base64.b64decode(part) for part in state["uses"])
            sampler._history.restore_uses(*(unpack_numbers(part) for part in packed))
        if state["adoption"]:
            sampler.adopt(state["adoption"], members)
        for name, part in state["slices"].items():
            sampler._slice(name).load_state_dict(part)
        sampler._ledger.credits = dict(state["credits"])
        sampler._num_drawn = dict(state["num_drawn"])
        sampler._starved = tuple(state["starved"])
        return sampler
