"""The signals of a loss: one wild value, a level that is left, no progress."""

import math
from typing import ClassVar

from trainer.health.reading import (
    LARGEST_LOG,
    LEAST_READINGS,
    RECENT_READINGS,
    REFERENCE_READINGS,
    Judged,
    Reading,
)
from trainer.health.window import Window

PLATEAU_READINGS = 128
QUARTILES_TO_SIGMA = 1.349  # of normal noise


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


def _noise(window: Window) -> float:
    """Sigma, but at least 1 % of the median: a constant loss makes no rounding error a spike."""
    return max(window.sigma, 0.01 * abs(window.median))
