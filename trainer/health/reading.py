"""What a detector reads of a step, what it makes of it, and what a detector is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

LEAST_READINGS = 32  # from 16 the noise comes out at half its size too often
RECENT_READINGS = 8
REFERENCE_READINGS = 64
LARGEST_LOG = 709.0  # exp of more is no float


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


class Detector(Protocol):
    """One signal. `calm`: how many readings in a row must be below the threshold to end it.

    `is_of_mix`: its windows compare losses or times, which another mix makes incomparable.
    `is_frozen`: it ends below the threshold that it started with, for its windows get used to it.
    """

    name: ClassVar[str]
    calm: ClassVar[int]
    is_of_mix: ClassVar[bool]
    is_frozen: ClassVar[bool]

    def judge(self, reading: Reading) -> Judged | None:
        """Compare a reading with those before it, then remember it."""

    def message(self, judged: Judged) -> str:
        """What has happened and what to do next, in plain words."""
