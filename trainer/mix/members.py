"""The members of one lane, kept in order of their sample numbers.

Cohorts join and samples leave; what a pass needs of each member leaves: its number, its row in the
run's history, its owner, and the adoption it came with.
"""

import numpy as np

from trainer.mix.cohorts import BoolArray, SliceChange
from trainer.mix.history import History
from trainer.mix.permutation import IntArray


class Members:
    """Parallel arrays, sorted by sample number."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.numbers: IntArray = np.empty(0, dtype=np.int64)
        self.rows: IntArray = np.empty(0, dtype=np.int64)
        self.adopted: IntArray = np.empty(0, dtype=np.int64)
        self.newest_adoption = 0  # the last one that brought any

    def __len__(self) -> int:
        return self.numbers.size

    @property
    def owners(self) -> IntArray:
        """The code of each one's owner."""
        return self._history.owner_codes[self.rows]

    def leave(self, removed: IntArray) -> None:
        """Take these numbers out."""
        stays = ~np.isin(self.numbers, removed)
        self.numbers, self.rows = self.numbers[stays], self.rows[stays]
        self.adopted = self.adopted[stays]

    def join(self, change: SliceChange) -> BoolArray:
        """Put the added in their places; the answer marks them among all members."""
        rows = self._history.enrol(change.added, change.owners)
        at = np.searchsorted(self.numbers, change.added)
        self.numbers = np.insert(self.numbers, at, change.added)
        self.rows = np.insert(self.rows, at, rows)
        self.adopted = np.insert(self.adopted, at, change.adopted)
        self.newest_adoption = max(self.newest_adoption, int(change.adopted.max(initial=0)))
        joins = np.zeros(len(self), dtype=np.bool_)
        joins[at + np.arange(at.size)] = True
        return joins
