"""A lane: the half of a slice whose samples show a change, or do not, drawn in passes.

Members come and go by adoption; `next` hands out one after the other. A pass is an order by place:
every member has a place in (0, 1] fixed by (seed, slice, lane, pass, number), the frontier is the
place of the last one drawn, and what is left lies beyond it. A cohort adopted in the middle of a
pass is spread over the places from the frontier to 1, so each cohort keeps its keyed permutation
and draws go to the cohorts in proportion to what is left of them; the next pass mixes all. Within a
pass nothing is repeated or missed, and a fresh sample is drawn in it once. A pass begins with its
first draw; what another slice draws from then on is done in it too.

The decision: one frontier for all cohorts instead of a cursor for each. A pass over a million
samples that took in ten thousand cohorts costs the same 1 us a draw and one number more a cohort.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.mix.cohorts import BoolArray, SliceChange, pack_flags, unpack_flags
from trainer.mix.history import History
from trainer.mix.members import Members
from trainer.mix.owners import Composition, admit, compose
from trainer.mix.permutation import (
    FloatArray,
    IntArray,
    has_ties,
    order_by,
    permutation_key,
    places,
)

_CHUNK = 4096  # rows looked at together where many in a row are done through another slice


def _no_rows() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Pass:
    """What a pass still had to draw when it was last composed, in order of place.

    entered: (adoption, frontier) of each cohort that came in the middle; `since`: the clock then.
    is_dry: nobody could take part; only an adoption or another policy changes that.
    """

    index: int
    base: int
    entered: tuple[tuple[int, float], ...]
    rows: IntArray
    places: FloatArray
    since: int
    is_dry: bool = False


@dataclass(frozen=True, eq=False)
class LanePosition:
    """Where a lane stands: all that a draw changes in it."""

    running: Pass
    cursor: int
    frontier: float
    turns: Mapping[int, float]


class Lane:
    """The members of one lane and the pass over them.

    `key` names the lane (seed, slice, lane) and makes its orders its own.
    """

    def __init__(self, history: History, *key: str | int) -> None:
        self.cap = 1.0
        self.max_uses: int | None = None
        self._history = history
        self._key = key
        self._turn_key = permutation_key(*key, "turn")
        self._members = Members(history)
        self._composition: Composition | None = None
        self._pass = Pass(-1, 0, (), _no_rows(), np.empty(0), 0)
        self._cursor = 0  # rows before it are done; where to look first
        self._frontier = 0.0
        self._turns: Mapping[int, float] = {}  # by owner code

    def limit(self, cap: float, max_uses: int | None) -> None:
        """Set the cap on an owner's share (from the next pass on) and on a sample's uses."""
        self.cap, self.max_uses = cap, max_uses
        self._composition = None
        self._pass = replace(self._pass, is_dry=False)

    @property
    def position(self) -> LanePosition:
        """Where the lane stands."""
        return LanePosition(self._pass, self._cursor, self._frontier, self._turns)

    @position.setter
    def position(self, position: LanePosition) -> None:
        self._pass, self._cursor = position.running, position.cursor
        self._frontier, self._turns = position.frontier, position.turns

    # Drawing

    def next(self, step_start: int) -> int | None:
        """The row to draw now, passed over from here on; None: nothing that the step lacks.

        A row drawn since `step_start` is in the step already. If it was drawn before this pass
        began, it stays for a later step; if all that is left of the pass is in the step, and
        another pass (by an owner's turn) could bring more, it counts as drawn in this one too.
        """
        while True:
            index = self._find(step_start)
            if index is not None:
                return self._pass_over(index, step_start)
            if self._pass.is_dry or (self._left().size and not self._has_others(step_start)):
                return None
            self._begin()

    def _find(self, step_start: int) -> int | None:
        rows, last = self._pass.rows, self._history.last
        free_before = min(self._pass.since, step_start)
        if (
            self.max_uses is None
            and self._cursor < rows.size
            and last[rows[self._cursor]] < free_before
        ):
            return self._cursor
        for start in range(self._cursor, rows.size, _CHUNK):
            chunk = rows[start : start + _CHUNK]
            free = (last[chunk] < free_before) & self._is_usable(chunk)
            first = int(free.argmax())
            if free[first]:
                return start + first
        return None

    def _pass_over(self, index: int, step_start: int) -> int:
        if self._pass.since <= step_start:
            self._cursor = index + 1  # nothing before it waits for a later step
        self._frontier = max(self._frontier, float(self._pass.places[index]))
        return int(self._pass.rows[index])

    def _is_usable(self, rows: IntArray) -> BoolArray:
        if self.max_uses is None:
            return np.ones(rows.size, dtype=np.bool_)
        return self._history.uses[rows] < self.max_uses

    def _left(self) -> IntArray:
        """Indices into the pass of what it still has to draw."""
        rows = self._pass.rows[self._cursor :]
        is_left = (self._history.last[rows] < self._pass.since) & self._is_usable(rows)
        return self._cursor + np.flatnonzero(is_left)

    def _has_others(self, step_start: int) -> bool:
        """Whether another pass could bring a sample that the step does not hold."""
        if self.max_uses is None and len(self._members) > self._history.clock - step_start:
            return True
        lacks = self._history.last[self._members.rows] < step_start
        return bool((lacks & self._is_usable(self._members.rows)).any())

    def _begin(self) -> None:
        if self._composition is None or self.max_uses is not None:
            self._composition = self._compose()
        chosen, self._turns = self._composition.next_pass(self._turns)
        index, base = self._pass.index + 1, self._members.newest_adoption
        numbers = self._members.numbers[chosen]
        at = places(permutation_key(*self._key, index), numbers)
        order = order_by(at, numbers)
        rows = self._members.rows[chosen][order]
        self._pass = Pass(
            index, base, (), rows, at[order], self._history.clock, is_dry=rows.size == 0
        )
        self._cursor, self._frontier = 0, 0.0

    def _compose(self) -> Composition:
        usable = np.flatnonzero(self._is_usable(self._members.rows))
        turn_places = places(self._turn_key, self._members.numbers[usable])
        owners = self._members.owners[usable]
        composition = compose(owners, turn_places, self.cap)
        waiting = {o: (usable[m], at) for o, (m, at) in composition.waiting.items()}
        return replace(composition, free=usable[composition.free], waiting=waiting)

    # Adopting

    def adopt(self, number: int, change: SliceChange) -> None:
        """Let a cohort in and take the removed ones out, of the members and of the pass."""
        if not len(change):
            return
        left = self._left()
        rows, at = self._pass.rows[left], self._pass.places[left]
        if change.removed.size:
            stays = ~np.isin(self._history.numbers[rows], change.removed)
            rows, at = rows[stays], at[stays]
            self._members.leave(change.removed)
        entered = self._pass.entered
        if change.added.size:
            joins = self._members.join(change)
            if self._pass.index >= 0:
                rows, at = self._enter(joins, rows, at)
                entered = (*entered, (number, self._frontier))
        self._composition = None
        self._pass = replace(
            self._pass,
            entered=entered,
            rows=rows,
            places=at,
            since=self._history.clock,
            is_dry=False,
        )
        self._cursor = 0

    def _enter(
        self, joins: BoolArray, rows: IntArray, at: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        """What is left of the pass with the joining members spread over it, up to the cap."""
        owners = self._members.owners
        turn_places = places(self._turn_key, self._members.numbers[joins])
        fresh = np.flatnonzero(joins)[admit(owners, joins, turn_places, self.cap)]
        fresh_at = self._cohort_places(fresh, np.full(fresh.size, self._frontier))
        order = order_by(fresh_at, self._members.numbers[fresh])
        between = np.searchsorted(at, fresh_at[order])
        rows = np.insert(rows, between, self._members.rows[fresh[order]])
        at = np.insert(at, between, fresh_at[order])
        if has_ties(at):
            order = order_by(at, self._history.numbers[rows])
            rows, at = rows[order], at[order]
        return rows, at

    def _cohort_places(self, members: IntArray, frontiers: FloatArray) -> FloatArray:
        key = permutation_key(*self._key, self._pass.index)
        return frontiers + (1.0 - frontiers) * places(key, self._members.numbers[members])

    # The checkpoint

    def state_dict(self) -> dict[str, Any]:
        """The lane's place, JSON-able; bits of what is left only where the frontier can't say."""
        left = self._left()
        left_rows, left_at = self._pass.rows[left], self._pass.places[left]
        beyond = np.count_nonzero(self._member_places() > self._frontier)
        is_plain = beyond == left.size and bool((left_at > self._frontier).all())
        owners = {code: owner for owner, code in self._history.codes.items()}
        return {
            "pass": self._pass.index,
            "base": self._pass.base,
            "is_dry": self._pass.is_dry,
            "entered": [list(cohort) for cohort in self._pass.entered],
            "frontier": self._frontier,
            "turns": [[owners[code], at] for code, at in self._turns.items()],
            "left": None if is_plain else pack_flags(np.isin(self._members.rows, left_rows)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was taken, over the same members."""
        codes = self._history.codes
        self._pass = Pass(
            index=state["pass"],
            base=state["base"],
            entered=tuple((number, at) for number, at in state["entered"]),
            rows=_no_rows(),
            places=np.empty(0),
            since=self._history.clock,
            is_dry=state["is_dry"],
        )
        self._cursor, self._frontier = 0, state["frontier"]
        self._turns = {codes.setdefault(owner, len(codes)): at for owner, at in state["turns"]}
        at = self._member_places()
        is_left = at > self._frontier
        if state["left"] is not None:
            is_left = unpack_flags(state["left"], len(self._members))
        left = np.flatnonzero(is_left)
        order = left[order_by(at[left], self._members.numbers[left])]
        self._pass = replace(self._pass, rows=self._members.rows[order], places=at[order])

    def _member_places(self) -> FloatArray:
        """Every member's place in the running pass, had it taken part."""
        frontiers = np.zeros(len(self._members))
        if self._pass.entered:
            numbers, entered_at = zip(*self._pass.entered, strict=True)
            is_late = self._members.adopted > self._pass.base
            cohorts = np.searchsorted(np.array(numbers), self._members.adopted[is_late])
            frontiers[is_late] = np.array(entered_at)[cohorts]
        return self._cohort_places(np.arange(len(self._members)), frontiers)
