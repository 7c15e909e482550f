"""What each signal of a run means: its definition, its source, and what to do about it.

In: the reading of one step after the other, of one mix. Out: for each a value beside the threshold
above which the signal is on, or nothing where that can't be told yet. Pure: no clock, no I/O.
Decision: medians over windows of steps and not moving averages, for an average is dragged along by
what it should judge, and remembers for ever what a process that starts again could not recompute;
here all that is remembered is the last HISTORY readings.
"""

import math
import sys
from typing import ClassVar, Protocol

from trainer.health_reading import Judged, Reading
from trainer.health_window import Window

LEAST_READINGS = 32  # from 16 the noise comes out at half its size too often
RECENT_READINGS = 8
REFERENCE_READINGS = 64
PLATEAU_READINGS = 128
THROUGHPUT_READINGS = 32
LARGEST_LOG = 709.0  # exp of more is no float
QUARTILES_TO_SIGMA = 1.349  # of normal noise
HISTORY = 2 * PLATEAU_READINGS + 2 * RECENT_READINGS


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


class LossSpike:
    """One loss far above those before it: over their median by more than 10 sigma.

    The Hampel identifier (Hampel 1974; Davies and Gather 1993, "The identification of multiple
    outliers", JASA 88) over the 64 losses before, sigma from their median absolute deviation but
    at least 1 % of the median. 10 and not the usual 3, because a run asks thousands of times and
    losses have heavy tails: in recorded NeuralOS runs the largest under one mix was 8.7. What to
    do is from PaLM (Chowdhery et al. 2022, section 5.1): go back and draw other samples.
    """

    name: ClassVar[str] = "loss_spike"
    calm: ClassVar[int] = RECENT_READINGS
    is_of_mix: ClassVar[bool] = True
    is_frozen: ClassVar[bool] = True
    SIGMAS = 10.0

    def __init__(self) -> None:
        self._before = Window(REFERENCE_READINGS)

    def judge(self, reading: Reading) -> Judged | None:
        """The loss, beside the bar."""
        if not math.isfinite(reading.loss):
            return None
        judged = None
        if len(self._before) >= LEAST_READINGS:
            bar = self._before.median + self.SIGMAS * _noise(self._before)
            judged = Judged(reading.loss, bar)
        self._before.push(reading.loss)
        return judged

    def message(self, judged: Judged) -> str:
        """Wait, or go back and skip what did it."""
        return (
            f"the loss jumped to {judged.value:.4g}, noise ends at {judged.threshold:.4g}; look at "
            "the step's samples. If it does not come down by itself, roll back to a checkpoint "
            "before it, without hold_data, so that other samples follow"
        )


class Divergence:
    """The loss has left its level and stays away: the median of the last 8 is above the bar.

    The bar is 8 sigma over the median of the up to 64 losses before those 8 (as for `LossSpike`; a
    median of 8 has less than half of one loss's noise, and one spike does not move it). A run may
    diverge from its first step on and so never have a level: for the first 256 readings of a mix
    a bar is also 6 sigma of the logarithm over the first loss, the only one that no update has
    touched, where both medians are above it (on logarithms, for the noise of such a run grows with
    its loss; sigma from the quartiles, which are 1.349 sigma apart). Cohen et al. 2021 ("Gradient
    descent on neural networks typically occurs at the edge of stability", arXiv:2103.00065) say
    why a smaller rate is the remedy.
    """

    name: ClassVar[str] = "divergence"
    calm: ClassVar[int] = RECENT_READINGS
    is_of_mix: ClassVar[bool] = True
    is_frozen: ClassVar[bool] = True
    SIGMAS = 8.0
    SIGMAS_OVER_START = 6.0
    LEAST_SIGMA = 0.05
    START_READINGS = 2 * PLATEAU_READINGS

    def __init__(self) -> None:
        self._recent = Window(RECENT_READINGS)
        self._before = Window(REFERENCE_READINGS)
        self._first = math.nan
        self._num_readings = 0

    def judge(self, reading: Reading) -> Judged | None:
        """The median of the last 8 losses, beside the lower bar."""
        if not math.isfinite(reading.loss):
            return None
        if self._num_readings == 0:
            self._first = reading.loss
        self._num_readings += 1
        left = self._recent.push(reading.loss)
        if left is not None:
            self._before.push(left)
        if len(self._before) < LEAST_READINGS:
            return None
        bar = self._before.median + self.SIGMAS * _noise(self._before)
        if self._num_readings <= self.START_READINGS:
            over_start = self._over_start()
            bar = min(bar, over_start) if self._before.median > over_start else bar
        return Judged(self._recent.median, bar)

    def _over_start(self) -> float:
        low, high = self._before.quartiles
        if min(self._first, low) <= 0:
            return math.inf
        sigma = max((math.log(high) - math.log(low)) / QUARTILES_TO_SIGMA, self.LEAST_SIGMA)
        return math.exp(min(math.log(self._first) + self.SIGMAS_OVER_START * sigma, LARGEST_LOG))

    def message(self, judged: Judged) -> str:
        """Go back, with a smaller rate."""
        return (
            f"the loss stays at {judged.value:.4g}, above {judged.threshold:.4g}: it diverges; "
            "roll back to a checkpoint before it with a smaller lr (a third is a good start)"
        )


class Plateau:
    """No progress that can be told from noise: 128 losses against the 128 before them.

    On while the median has not fallen by more than 3 standard errors of the difference of two
    medians of 128, each 1.2533 sigma / sqrt(128) (Laplace's variance of the median, pi sigma^2 /
    2n), and by 0.1 % at least. The value is the change of the median: negative is progress.
    """

    name: ClassVar[str] = "plateau"
    calm: ClassVar[int] = RECENT_READINGS
    is_of_mix: ClassVar[bool] = True
    is_frozen: ClassVar[bool] = False
    ERRORS = 3.0
    LEAST_PROGRESS = 1e-3
    ERROR_OF_DIFFERENCE = 1.2533 * math.sqrt(2 / PLATEAU_READINGS)

    def __init__(self) -> None:
        self._newer = Window(PLATEAU_READINGS)
        self._older = Window(PLATEAU_READINGS)

    def judge(self, reading: Reading) -> Judged | None:
        """The change of the median, beside the least progress that is one."""
        if not math.isfinite(reading.loss):
            return None
        left = self._newer.push(reading.loss)
        if left is not None:
            self._older.push(left)
        if not self._older.is_full:
            return None
        error = self.ERROR_OF_DIFFERENCE * self._newer.sigma
        before = self._older.median
        progress = max(self.ERRORS * error, self.LEAST_PROGRESS * abs(before))
        return Judged(self._newer.median - before, -progress)

    def message(self, judged: Judged) -> str:
        """Evaluate, then change something or stop."""
        return (
            f"the loss has changed by {judged.value:.3g} in {PLATEAU_READINGS} steps, which is no "
            "progress that can be told from noise; evaluate, then lower the lr, change the mix, or "
            "stop"
        )


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

    Counted by the mix sampler (`starved`), whose exact shares (`trainer.shares`) tell who was owed
    a draw and had none; the others took its place, so the run trains on, on another mix.
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


def _noise(window: Window) -> float:
    """Sigma, but at least 1 % of the median: a constant loss makes no rounding error a spike."""
    return max(window.sigma, 0.01 * abs(window.median))
