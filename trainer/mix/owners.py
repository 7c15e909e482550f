"""The cap on one owner's share of a pass, and whose turn it is under it.

Owners of a lane's members enter; which members take part in the next pass leaves. An owner (a user,
or a session where there is none) has at most `limit` of them in a pass: water-filling, the largest
whole L with L <= cap * sum(min(n_owner, L)). With fewer than 1/cap owners no such L exists, and the
cap falls back to equal shares: L = min(n_owner). Owners above the limit take turns with their
samples, in a keyed order that goes on from pass to pass, so that all come up; at most 1/cap owners
are ever above it, so the turns are a few numbers in a checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainer.mix.cohorts import BoolArray
from trainer.mix.permutation import FloatArray, IntArray, order_by

_ROUNDING = 1e-9


def owner_limit(counts: IntArray, cap: float) -> int:
    """The most members of one owner in a pass; `counts` are all owners' members, above 0 each."""
    if counts.size == 0:
        return 0
    if counts.size * cap <= 1 + _ROUNDING:
        return int(counts.min())
    largest_first = np.sort(counts)[::-1]
    num_above = np.arange(counts.size)
    num_above = num_above[num_above * cap < 1]
    # With c owners at L and the others whole, L = cap * (rest + c * L); the first c that fits.
    rest = counts.sum() - np.cumsum(largest_first)[num_above] + largest_first[num_above]
    limits = cap * rest / (1 - num_above * cap) + _ROUNDING
    first = int(np.argmax(largest_first[num_above] <= limits))
    return int(largest_first[0]) if first == 0 else max(1, int(limits[first]))


@dataclass(frozen=True, eq=False)
class Composition:
    """Who takes part in a lane's passes: indices into its members.

    `free` always do; an owner above the limit has `limit` of `waiting[owner]`, in turn order.
    """

    limit: int
    free: IntArray
    waiting: Mapping[int, tuple[IntArray, FloatArray]]

    def next_pass(self, turns: Mapping[int, float]) -> tuple[IntArray, dict[int, float]]:
        """The members of the next pass, and the turns after it.

        A turn is the place (`permutation.places`) of the owner's last member that took part.
        """
        chosen, after = [self.free], {}
        for owner, (members, ordered_places) in self.waiting.items():
            first = np.searchsorted(ordered_places, turns.get(owner, 0.0), side="right")
            positions = (first + np.arange(self.limit)) % members.size
            chosen.append(members[positions])
            after[owner] = float(ordered_places[positions[-1]])
        return np.concatenate(chosen), after


def compose(owners: IntArray, turn_places: FloatArray, cap: float) -> Composition:
    """The composition of a lane; owner codes and turn places are parallel to its members."""
    counts = np.bincount(owners)
    limit = owner_limit(counts[counts > 0], cap)
    is_above = (counts > limit)[owners]
    above = np.flatnonzero(is_above)
    waiting = {}
    for owner in np.flatnonzero(counts > limit):
        members = above[owners[above] == owner]
        order = order_by(turn_places[members], members)
        waiting[int(owner)] = (members[order], turn_places[members][order])
    return Composition(limit, np.flatnonzero(~is_above), waiting)


def admit(owners: IntArray, joins: BoolArray, turn_places: FloatArray, cap: float) -> BoolArray:
    """Which of the joining members enter the running pass: up to their owners' limit of today.

    `owners` (codes) and `joins` are parallel to the lane's members, the joining ones included;
    `turn_places` and the answer to the joining ones. Those already there count as taking part up
    to the limit.
    """
    counts = np.bincount(owners)
    limit = owner_limit(counts[counts > 0], cap)
    if counts.max(initial=0) <= limit:
        return np.ones(turn_places.size, dtype=np.bool_)
    before = np.bincount(owners[~joins], minlength=counts.size)
    room = np.minimum(counts, limit) - np.minimum(before, limit)
    fresh = owners[joins]
    by_owner = np.lexsort((turn_places, fresh))
    ranks = np.arange(fresh.size) - np.searchsorted(fresh[by_owner], fresh[by_owner])
    admitted = np.zeros(fresh.size, dtype=np.bool_)
    admitted[by_owner] = ranks < room[fresh[by_owner]]
    return admitted
