"""What the detectors read of a step, and what they make of it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One step's numbers; None where one was not measured. `mix` is the wanted shares by slice."""

    step: int
    loss: float
    grad_norm: float | None
    step_s: float
    num_starved: int
    update_ratio: float | None
    mix: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """A value beside the threshold above which its signal is on."""

    value: float
    threshold: float

    def is_over(self, threshold: float) -> bool:
        """Whether the value is above a threshold; NaN is above every one."""
        return not self.value <= threshold
