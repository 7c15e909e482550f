"""When each sample was last drawn: one clock for all slices of a run.

Sample numbers enter once and get a row each; a draw stamps its row with the clock. That one stamp
answers all three questions of the sampler in 100 ns: is it in this step already (drawn since the
step began), is it done in this pass (drawn since the pass was composed, through whichever slice),
and how often was it used. Draws can be taken back, newest first.
"""

from dataclasses import dataclass

import numpy as np

from trainer.mix.permutation import IntArray

NEVER = -1


@dataclass(frozen=True)
class Stamp:
    """One draw as it was booked, with what it takes to undo it."""

    row: int
    before: int


class History:
    """Rows of samples: their numbers, the clock of their last draw, their uses.

    Uses are counted from the first mix that limits them (`counts_uses`) on.
    """

    def __init__(self) -> None:
        self.clock = 0
        self.counts_uses = False
        self.numbers: IntArray = np.empty(0, dtype=np.int64)
        self.last: IntArray = np.empty(0, dtype=np.int64)
        self.uses: IntArray = np.empty(0, dtype=np.int64)
        self.owner_codes: IntArray = np.empty(0, dtype=np.int64)  # 0, 1, 2 ... as owners came
        self.codes: dict[int, int] = {}  # by owner
        self._sorted: IntArray = np.empty(0, dtype=np.int64)  # the numbers in ascending order
        self._rows: IntArray = np.empty(0, dtype=np.int64)  # and their rows

    def enrol(self, numbers: IntArray, owners: IntArray) -> IntArray:
        """The rows of samples that join a slice; `numbers` sorted and distinct."""
        rows = self._rows_of(numbers)
        values, inverse = np.unique(owners, return_inverse=True)
        codes = [self.codes.setdefault(int(owner), len(self.codes)) for owner in values]
        self.owner_codes[rows] = np.array(codes, dtype=np.int64)[inverse]
        return rows

    def _rows_of(self, numbers: IntArray) -> IntArray:
        places = np.searchsorted(self._sorted, numbers)
        is_new = np.ones(numbers.size, dtype=np.bool_)
        inside = places < self._sorted.size
        is_new[inside] = self._sorted[places[inside]] != numbers[inside]
        self._append(numbers[is_new], places[is_new])
        return self._rows[np.searchsorted(self._sorted, numbers)]

    def _append(self, numbers: IntArray, places: IntArray) -> None:
        rows = np.arange(self.numbers.size, self.numbers.size + numbers.size)
        self._sorted = np.insert(self._sorted, places, numbers)
        self._rows = np.insert(self._rows, places, rows)
        self.numbers = np.append(self.numbers, numbers)
        self.last = np.append(self.last, np.full(numbers.size, NEVER))
        zeros = np.zeros(numbers.size, dtype=np.int64)
        self.uses = np.append(self.uses, zeros)
        self.owner_codes = np.append(self.owner_codes, zeros)

    def draw(self, row: int) -> Stamp:
        """Book one draw."""
        stamp = Stamp(row, int(self.last[row]))
        self.last[row] = self.clock
        self.clock += 1
        if self.counts_uses:
            self.uses[row] += 1
        return stamp

    def undo(self, stamp: Stamp) -> None:
        """Take back the newest draw."""
        self.clock -= 1
        self.last[stamp.row] = stamp.before
        if self.counts_uses:
            self.uses[stamp.row] -= 1

    def used(self) -> tuple[IntArray, IntArray]:
        """Numbers that were used, in ascending order, and how often."""
        rows = self._rows[self.uses[self._rows] > 0]
        return self.numbers[rows], self.uses[rows]

    def restore_uses(self, numbers: IntArray, uses: IntArray) -> None:
        """Take over what `used` gave."""
        self.counts_uses = True
        rows = self._rows_of(numbers)
        self.uses[rows] = uses
