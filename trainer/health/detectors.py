"""What each signal of a run means: its definition, its source, and what to do about it.

In: the reading of one step after the other, of one mix. Out: for each a value beside the threshold
above which the signal is on, or nothing where that can't be told yet. Pure: no clock, no I/O.
Decision: medians over windows of steps and not moving averages, for an average is dragged along by
what it should judge, and remembers for ever what a process that starts again could not recompute;
here all that is remembered is the last HISTORY readings. The loss has three signals of its own in
`health_loss`.
"""

import math
import sys
from typing import ClassVar

from trainer.health.loss import PLATEAU_READINGS, Divergence, LossSpike, Plateau
from trainer.health.reading import (
    LARGEST_LOG,
    LEAST_READINGS,
    RECENT_READINGS,
    REFERENCE_READINGS,
    Detector,
    Judged,
    Reading,
)
from trainer.health.window import Window

THROUGHPUT_READINGS = 32
HISTORY = 2 * PLATEAU_READINGS + 2 * RECENT_READINGS


class NotFinite:
    """The loss or the gradient norm is NaN or infinite, at the step at which it is.

    IEEE 754: nothing computed from a NaN is a number again, so a NaN loss has usually spoiled the
    weights for good. (Scaled fp16 skips a step whose gradients are infinite: then it passes.)
    """

    name: ClassVar[str] = "not_finite"
    calm: ClassVar[int] = RECENT_READINGS
    is_of_mix: ClassVar[bool] = False
    is_frozen: ClassVar[bool] = True

    def judge(self, reading: Reading) -> Judged | None:
        """What is no finite number, else the loss."""
        numbers = (reading.loss, reading.grad_norm or 0.0)
        wrong = [abs(number) for number in numbers if not math.isfinite(number)]
        return Judged(wrong[0] if wrong else abs(reading.loss), sys.float_info.max)

    def message(self, judged: Judged) -> str:
        """Go back."""
        return (
            f"the loss or the gradient norm is {judged.value}: the weights are likely lost; roll "
            "back to a checkpoint before it with a smaller lr, and look at the step's samples"
        )


class GradNormSpike:
    """One gradient far longer than those before it: over their median by 6 sigma of its logarithm.

    The Hampel identifier (see `LossSpike`) over the 64 norms before, on logarithms because norms
    are positive with a tail to the right; sigma at least 0.05. ZClip (Kumar et al. 2025,
    arXiv:2504.02507) clips by the same idea with moving averages.
    """

    name: ClassVar[str] = "grad_norm_spike"
    calm: ClassVar[int] = RECENT_READINGS
    is_of_mix: ClassVar[bool] = True
    is_frozen: ClassVar[bool] = True
    SIGMAS = 6.0
    LEAST_SIGMA = 0.05

    def __init__(self) -> None:
        self._before = Window(REFERENCE_READINGS)

    def judge(self, reading: Reading) -> Judged | None:
        """The norm, beside the bar."""
        if reading.grad_norm is None or not math.isfinite(reading.grad_norm):
            return None
        judged = None
        if len(self._before) >= LEAST_READINGS:
            sigma = max(self._before.sigma, self.LEAST_SIGMA)
            bar = self._before.median + self.SIGMAS * sigma
            judged = Judged(reading.grad_norm, math.exp(min(bar, LARGEST_LOG)))
        self._before.push(math.log(max(reading.grad_norm, sys.float_info.min)))
        return judged

    def message(self, judged: Judged) -> str:
        """Clip, or a smaller rate if it comes again."""
        return (
            f"the gradient norm jumped to {judged.value:.4g}, noise ends at "
            f"{judged.threshold:.4g}; clipping (max_grad_norm) bounds one step. If it comes again, "
            "lower the lr"
        )


class UpdateRatio:
    """Steps too long for the weights: |change of the weights| / |weights| of one step over 0.1.

    About 0.001 is healthy (Karpathy, CS231n "Neural networks 3: ratio of weights to updates"); at a
    hundred times that, ten steps write the weights anew. Measured at every 20th step, from the
    first on (`update_ratio`), so that a rate far too high is named before the loss can tell.
    """

    name: ClassVar[str] = "update_ratio"
    calm: ClassVar[int] = 1
    is_of_mix: ClassVar[bool] = False
    is_frozen: ClassVar[bool] = True
    LARGEST = 0.1

    def judge(self, reading: Reading) -> Judged | None:
        """The ratio, where the step was measured."""
        if reading.update_ratio is None:
            return None
        return Judged(reading.update_ratio, self.LARGEST)

    def message(self, judged: Judged) -> str:
        """A smaller rate."""
        return (
            f"one step changed the weights by {judged.value:.2g} of their size (about 0.001 is "
            "healthy); lower the lr, ten times or more"
        )


class ThroughputDrop:
    """Steps take twice as long as before: the median of the last 32 over twice that of 64 before.

    Wall seconds of the steps alone, without pauses and saves. A median of 32, for a few slow steps
    (a commit of the journal beside steps of 2 ms, a page fault) are no drop; twice, for less is
    what neighbours on a machine of 2 shared cores do to each other.
    """

    name: ClassVar[str] = "throughput_drop"
    calm: ClassVar[int] = RECENT_READINGS
    is_of_mix: ClassVar[bool] = True
    is_frozen: ClassVar[bool] = True
    TIMES = 2.0

    def __init__(self) -> None:
        self._recent = Window(THROUGHPUT_READINGS)
        self._before = Window(REFERENCE_READINGS)

    def judge(self, reading: Reading) -> Judged | None:
        """The median of the last 32 steps' seconds, beside twice the one before."""
        left = self._recent.push(reading.step_s)
        if left is not None:
            self._before.push(left)
        if len(self._before) < LEAST_READINGS:
            return None
        return Judged(self._recent.median, self.TIMES * self._before.median)

    def message(self, judged: Judged) -> str:
        """Look at the machine."""
        return (
            f"a step takes {judged.value:.3g} s, over twice as long as before; look at what else "
            "uses the machine, its memory and its disk"
        )


class Starvation:
    """A slice of the mix could not supply its share of a step, or no slice had a sample at all.

    Counted by the mix sampler (`starved`), whose exact shares (`trainer.mix.shares`) tell who was
    owed a draw and had none; the others took its place, so the run trains on, on another mix.
    """

    name: ClassVar[str] = "starvation"
    calm: ClassVar[int] = RECENT_READINGS
    is_of_mix: ClassVar[bool] = False
    is_frozen: ClassVar[bool] = True

    def judge(self, reading: Reading) -> Judged | None:
        """How many slices starved."""
        return Judged(float(reading.num_starved), 0.0)

    def message(self, judged: Judged) -> str:
        """More samples, or another mix."""
        return (
            f"{judged.value:.0f} slices could not supply their share, the others took it; look "
            "whether replay and encoding keep up, widen the slice's filter, or change the mix"
        )


DETECTORS: dict[str, type[Detector]] = {
    detector.name: detector
    for detector in (
        NotFinite,
        Divergence,
        LossSpike,
        GradNormSpike,
        UpdateRatio,
        Plateau,
        ThroughputDrop,
        Starvation,
    )
}
