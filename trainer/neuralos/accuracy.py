"""Balanced transition accuracy: did the prediction show what happened, or what did not?

A case is right if the decoded prediction, inside the region where the true frame and its
counterfactual differ, is nearer to the true frame (mean squared error). The accuracy is the mean of
two halves, changes and no-changes, so that neither "nothing ever happens" nor "everything opens"
earns more than 0.5. Intervals: Wilson (JASA 22, 1927) for a half; for the mean of both the halves'
distances to their ends, squared and summed (Newcombe, Statistics in Medicine 17, 1998, method 10).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959964


@dataclass(frozen=True)
class Share:
    """`right` of `total`, with its 95 % interval."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share, 0 to 1; 0 of nothing is 0."""
        return self.right / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval; all of [0, 1] for nothing."""
        if not self.total:
            return 0.0, 1.0
        n, p, z2 = self.total, self.value, Z_95**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(frozen=True)
class Balanced:
    """Both halves of a suite."""

    changes: Share
    no_changes: Share

    @property
    def value(self) -> float:
        """The mean of both halves."""
        return (self.changes.value + self.no_changes.value) / 2

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval."""
        halves = (self.changes, self.no_changes)
        down = math.hypot(*(half.value - half.interval[0] for half in halves)) / 2
        up = math.hypot(*(half.interval[1] - half.value for half in halves)) / 2
        return max(self.value - down, 0.0), min(self.value + up, 1.0)


def is_nearer_truth(
    predicted: NDArray[np.uint8], true: NDArray[np.uint8], counterfactual: NDArray[np.uint8]
) -> bool:
    """Whether a frame (H, W, 3) is nearer the true one where the two outcomes differ.

    Raises ValueError where they don't differ anywhere: such a step is no case.
    """
    region = (true != counterfactual).any(axis=2)
    if not region.any():
        raise ValueError("true frame and counterfactual are the same")
    shown = predicted[region].astype(np.float32)
    to_true = np.square(shown - true[region]).mean()
    to_other = np.square(shown - counterfactual[region]).mean()
    return bool(to_true < to_other)


def evenly(count: int, wanted: int) -> Sequence[int]:
    """`wanted` of the indices 0 .. count - 1, evenly spread; all of them if there are fewer."""
    return [index * count // wanted for index in range(wanted)] if wanted < count else range(count)
