"""Outcomes of a case study to the figures that are reported; pure.

In: what became of each arm under each seed. Out: per arm the held-out losses with their mean and
spread, and how many seeds an arm won against another, seed by seed: both drew the same samples.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.case_studies.lab import Outcome


def by_arm(outcomes: Sequence[Outcome]) -> dict[str, dict[int, float | None]]:
    """Held-out losses: {arm: {seed: loss}}, None where a model gives no number."""
    found: dict[str, dict[int, float | None]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.arm, {})[outcome.seed] = outcome.held_out
    return found


def figures(losses: dict[int, float | None]) -> dict[str, Any]:
    """An arm's mean, standard deviation and each seed's loss, in nats a token.

    Mean and deviation are None where one of the losses is no number.
    """
    numbers = [loss for loss in losses.values() if loss is not None]
    is_whole = len(numbers) == len(losses)
    return {
        "mean": round(statistics.mean(numbers), 4) if is_whole else None,
        "sd": round(statistics.stdev(numbers), 4) if is_whole and len(numbers) > 1 else None,
        "held_out": {str(seed): loss and round(loss, 4) for seed, loss in sorted(losses.items())},
    }


def won(arm: dict[int, float | None], other: dict[int, float | None]) -> int:
    """In how many seeds an arm's loss is below the other's; one that is no number loses."""
    return sum(
        loss is not None and (theirs is None or loss < theirs)
        for loss, theirs in ((arm[seed], other[seed]) for seed in arm)
    )
