"""Readings of steps for tests of a run's health, with only what a test cares about spelled out."""

import random
from collections.abc import Iterable, Mapping

from trainer.health.reading import Reading
from trainer.health.signals import Health, Signal

MIX = {"old": 1.0}


def reading(
    step: int,
    loss: float = 1.0,
    *,
    grad_norm: float | None = 1.0,
    step_s: float = 0.1,
    num_starved: int = 0,
    update_ratio: float | None = None,
    mix: Mapping[str, float] = MIX,
) -> Reading:
    """One step; all is well unless said otherwise."""
    return Reading(step, loss, grad_norm, step_s, num_starved, update_ratio, mix)


def noisy(seed: int, count: int, *, first: int = 1, sigma: float = 0.1) -> list[Reading]:
    """Steps whose loss, gradient norm and time vary about 2, 1 and 0.1 s, independently."""
    draw = random.Random(seed)
    return [
        reading(
            step,
            draw.gauss(2.0, sigma),
            grad_norm=draw.lognormvariate(0.0, 0.3),
            step_s=draw.gauss(0.1, 0.01),
        )
        for step in range(first, first + count)
    ]


def told(health: Health, readings: Iterable[Reading]) -> list[Signal]:
    """All that is said of these steps."""
    return [signal for each in readings for signal in health.read(each)]


def started(signals: Iterable[Signal]) -> set[str]:
    """The names of those that started."""
    return {signal.name for signal in signals if signal.state == "started"}
