"""A run's health: signals that start and end, from the readings of its steps.

In: one reading a step. Out: the signals that start or end with it. Guaranteed: what is said next
follows from the last HISTORY readings and from which signals are on, both of which SQL has: so
after a rollback or a crash the state is recomputed from the recorded steps of the line and equals
the one that was there, and no checkpoint has to carry it (`tests` compare both). Pure; 40 us a step
here, in the journal's thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from trainer.health.detectors import DETECTORS, Starvation
from trainer.health.reading import Detector, Judged, Reading

MIX_CHANGED = "another mix: its losses can't be compared with those before, so all is judged anew"


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that starts or ends with a step; `value` and `threshold` are in its own unit."""

    name: str
    state: Literal["started", "ended"]
    step: int
    value: float
    threshold: float
    message: str


@dataclass(frozen=True, slots=True)
class Since:
    """The step at which a signal that is on started, and the threshold that it passed."""

    step: int
    threshold: float


class Health:
    """The signals of one line of steps; `past` and `on` are what the line has behind it.

    `past` are the last HISTORY readings or fewer, of the mix in force, in order.
    """

    def __init__(self, past: Iterable[Reading] = (), on: Mapping[str, Since] | None = None) -> None:
        self._watched = [_Watched(make(), (on or {}).get(name)) for name, make in DETECTORS.items()]
        self._mix: Mapping[str, float] | None = None
        for reading in past:
            self._mix = reading.mix
            for watched in self._watched:
                watched.recall(reading)

    @property
    def on(self) -> dict[str, Since]:
        """The signals that are on, by name."""
        return {w.name: w.since for w in self._watched if w.since is not None}

    @property
    def values(self) -> dict[str, float]:
        """The newest value of each signal that is on."""
        return {w.name: w.value for w in self._watched if w.since and w.value is not None}

    def read(self, reading: Reading) -> list[Signal]:
        """Take a step in; what starts or ends with it."""
        signals = []
        if reading.mix != self._mix:
            self._mix = reading.mix
            signals = self._judge_anew(reading.step)
        followed = (watched.follow(reading) for watched in self._watched)
        return signals + [signal for signal in followed if signal is not None]

    def starve(self, step: int, reason: str) -> list[Signal]:
        """No slice has a sample, so no step comes; `step` is the last one."""
        [watched] = [w for w in self._watched if w.name == Starvation.name]
        signal = watched.start(step, Judged(1.0, 0.0), f"the run waits: {reason}")
        return [] if signal is None else [signal]

    def _judge_anew(self, step: int) -> list[Signal]:
        ended = [w.end(step, MIX_CHANGED) for w in self._watched if w.is_of_mix]
        self._watched = [
            _Watched(DETECTORS[w.name](), None) if w.is_of_mix else w for w in self._watched
        ]
        return [signal for signal in ended if signal is not None]


class _Watched:
    """A detector, and whether its signal is on."""

    def __init__(self, detector: Detector, since: Since | None) -> None:
        self.name = detector.name
        self.is_of_mix = detector.is_of_mix
        self.since = since
        self.value: float | None = None
        self._detector = detector
        self._num_calm = 0

    def recall(self, reading: Reading) -> None:
        """A step of the past: remembered, and it counts for the end of a signal that is on."""
        judged = self._detector.judge(reading)
        if self.since is not None and reading.step > self.since.step:
            self._count_calm(judged, self.since)

    def follow(self, reading: Reading) -> Signal | None:
        """A step: the signal may start or end with it."""
        judged = self._detector.judge(reading)
        self.value = None if judged is None else judged.value
        if judged is None:
            return None
        if self.since is None:
            is_over = judged.is_over(judged.threshold)
            return self.start(reading.step, judged) if is_over else None
        self._count_calm(judged, self.since)
        if self._num_calm < self._detector.calm:
            return None
        return self.end(reading.step, f"{self.name} is over: {judged.value:.4g} is no sign of it")

    def _count_calm(self, judged: Judged | None, since: Since) -> None:
        if judged is None:
            return
        threshold = since.threshold if self._detector.is_frozen else judged.threshold
        self._num_calm = 0 if judged.is_over(threshold) else self._num_calm + 1

    def start(self, step: int, judged: Judged, message: str | None = None) -> Signal | None:
        """The signal is on from this step on, unless it is already."""
        if self.since is not None:
            return None
        self.since, self.value, self._num_calm = Since(step, judged.threshold), judged.value, 0
        text = message or self._detector.message(judged)
        return Signal(self.name, "started", step, judged.value, judged.threshold, text)

    def end(self, step: int, message: str) -> Signal | None:
        """The signal is off from this step on, unless it is already."""
        if self.since is None:
            return None
        since, self.since = self.since, None
        value = float("nan") if self.value is None else self.value
        return Signal(self.name, "ended", step, value, since.threshold, message)
