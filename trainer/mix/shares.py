"""Exact shares: who is owed the next draw.

Shares enter, the winner of each draw leaves. Every draw credits each name with its share of one
draw and charges the winner, the name with the most credit, one whole draw. Guaranteed for k names:
after any number n of draws, |drawn - share * n| < k, and below k/2 in practice, because credits sum
to zero and only the largest is ever charged. Where some names can't supply, their share goes to the
others in proportion, and their credit waits: a slice that returns is neither owed a flood nor
fined for what it could not give.
"""

import math
from collections.abc import Mapping


class Ledger:
    """Credits per name, in draws; ties go to the first name in alphabetical order.

    Raises ValueError naming the share that is not a finite number >= 0, or if none is above 0.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        for name, share in shares.items():
            if not (math.isfinite(share) and share >= 0):
                raise ValueError(f"share of {name!r} is {share}; give a finite number >= 0")
        self.shares = {name: share for name, share in sorted(shares.items()) if share > 0}
        if not self.shares:
            raise ValueError("no share is above 0; give at least one slice a share")
        self.names = tuple(self.shares)
        self.credits = dict.fromkeys(self.names, 0.0)
        self._proportions: dict[tuple[str, ...], dict[str, float]] = {}

    def owed(self, names: tuple[str, ...]) -> str:
        """The one of these names, in the ledger's order, that should supply the next draw."""
        proportions = self.proportions(names)
        return max(names, key=lambda name: self.credits[name] + proportions[name])

    def charge(self, winner: str, names: tuple[str, ...]) -> None:
        """Book one draw that the winner supplied while these names could have."""
        for name, proportion in self.proportions(names).items():
            self.credits[name] += proportion
        self.credits[winner] -= 1.0

    def proportions(self, names: tuple[str, ...]) -> dict[str, float]:
        """The shares of these names, scaled to sum to 1."""
        if names not in self._proportions:
            total = math.fsum(self.shares[name] for name in names)
            self._proportions[names] = {name: self.shares[name] / total for name in names}
        return self._proportions[names]


def without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The other names, in the same order."""
    return tuple(other for other in names if other != name)
