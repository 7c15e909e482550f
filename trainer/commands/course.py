"""The course of a learning rate over the next steps, as arithmetic alone.

In: a shape, the rate in force, the rate to end at, how many steps. Out: the rate of each step; a
course knows at which step it stands and is what it was when it is written down and read again. The
first step is already under it, the last one is at `to` exactly, and no rate leaves the interval
between its ends, so that what was checked when a command came holds for every step.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

Shape = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class Course:
    """Where the rate goes from `start`; `step` is the next one, from 1 to `steps`.

    The first `warm_up_steps` rise in a line from 0, as in Goyal et al. (2017), section 2.2, but
    none of them is at 0, where nothing would be learnt. `cosine` is the half cycle of Loshchilov
    and Hutter (2017), equation 5.
    """

    shape: Shape
    start: float
    to: float
    steps: int
    warm_up_steps: int = 0
    step: int = 1

    @property
    def rate(self) -> float:
        """The rate of `step`."""
        if self.step <= self.warm_up_steps:
            peak = self.to if self.shape == "constant" else self.start
            return peak * (self.step / self.warm_up_steps)
        if self.shape == "constant" or self.step >= self.steps:
            return self.to
        part = (self.step - self.warm_up_steps) / (self.steps - self.warm_up_steps)
        if self.shape == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        low, high = sorted((self.start, self.to))
        return min(high, max(low, self.start + (self.to - self.start) * part))

    def after_step(self) -> Self | None:
        """The course one step on; None where it has ended."""
        return replace(self, step=self.step + 1) if self.step < self.steps else None
