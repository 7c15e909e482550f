"""What is wrong with a run whose rate may be far too high, told from one observation.

In: an observation, and the step after which its steps count: what the last change of the rate has
not touched says nothing about it. Out: the first trouble that is found, with the step at which it
began at the latest and a sentence with its numbers; or nothing. Pure. The run's own signals (see
`trainer.health.detectors`) are believed; the rest is for what they can't tell before they have seen
enough steps, or can't know: that a run which is calm has learnt nothing since its start.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from control_api.agent.observation import Observation, Point

FEW = 8  # losses whose median is a level
# Times the start's loss, and over it by so many sigma of the noise, for the start is one loss alone
# (4: of a hundred batches one lies 3 sigma off); beyond twice the start it can't be noise.
DIVERGED = 1.2
DIVERGED_SIGMAS = 4.0
DIVERGED_SURELY = 2.0
EXPLODED = 30.0  # times the start's gradient norm
LEARNT = 0.95  # times the start's loss: from there on something was learnt
PATIENCE_STEPS = 100  # without anything learnt
# |change of the weights| / |weights| of a step: the run's own signal is on above 0.1, and then the
# patience is short. 0.001 is healthy (see the signal); where a step is of about that size, the rate
# is not to blame for what is not learnt: a model that was good at its start has little to learn.
SHORT_PATIENCE_STEPS = 24
TOO_SHORT_A_STEP = 1e-4
TOO_LONG_A_STEP = 1e-2

Name = Literal["not_finite", "divergence", "grad_norm", "stuck"]


@dataclass(frozen=True)
class Trouble:
    """What is wrong; `remedy` says which way the rate has to go."""

    name: Name
    since: int
    what: str
    remedy: Literal["lower", "raise"] = "lower"


def find_trouble(seen: Observation, after_step: int) -> Trouble | None:
    """The worst trouble of the steps after one."""
    losses = _after(seen.recent_losses, after_step)
    grad_norms = _after(seen.recent_grad_norms, after_step)
    return (
        _not_finite(seen, [*losses, *grad_norms], after_step)
        or _diverged(seen, losses, after_step)
        or _exploded(seen, grad_norms)
        or _stuck(seen, losses, after_step)
    )


def has_learnt(seen: Observation, points: Iterable[Point]) -> bool:
    """Whether the last of these losses are below the start's."""
    level = _level(list(points))
    return level is not None and seen.start_loss is not None and level < LEARNT * seen.start_loss


def _not_finite(seen: Observation, points: Sequence[Point], after_step: int) -> Trouble | None:
    lost = [point.step for point in points if point.value is None]
    if lost:
        what = f"the loss or the gradient norm is no number at step {min(lost)}"
        return Trouble("not_finite", min(lost), what)
    return _signalled(seen, "not_finite", after_step)


def _diverged(seen: Observation, losses: Sequence[Point], after_step: int) -> Trouble | None:
    level, start = _level(losses), seen.start_loss
    if level is not None and start is not None and level > _highest_level(losses, start):
        what = f"the last losses are about {level:.4g}, and the run began at {start:.4g}"
        return Trouble("divergence", _first_above(losses, abs(start)), what)
    return _signalled(seen, "divergence", after_step)


def _highest_level(losses: Sequence[Point], start: float) -> float:
    """The bar over which a run that began with this loss has diverged."""
    noise = start + DIVERGED_SIGMAS * _sigma(losses)
    return min(DIVERGED_SURELY * abs(start), max(DIVERGED * abs(start), noise))


def _exploded(seen: Observation, grad_norms: Sequence[Point]) -> Trouble | None:
    level, start = _level(grad_norms), seen.start_grad_norm
    if level is None or start is None or not level > EXPLODED * start > 0:
        return None
    what = f"the gradient norms are about {level:.4g}, and the run began at {start:.4g}"
    return Trouble("grad_norm", _first_above(grad_norms, EXPLODED * start), what)


def _stuck(seen: Observation, losses: Sequence[Point], after_step: int) -> Trouble | None:
    is_rewritten = "update_ratio" in seen.on
    patience = SHORT_PATIENCE_STEPS if is_rewritten else PATIENCE_STEPS
    level, num_steps = _level(losses), seen.step - after_step
    if level is None or num_steps < patience or has_learnt(seen, losses):
        return None
    what = f"the loss is about {level:.4g} after {num_steps} steps and began at {seen.start_loss}"
    ratio = _last(_after(seen.update_ratios, after_step))
    if ratio is None or ratio > TOO_LONG_A_STEP or is_rewritten:
        return Trouble("stuck", after_step + 1, what)
    if ratio < TOO_SHORT_A_STEP:
        what += f"; a step changes the weights by {ratio:.2g} of their size only"
        return Trouble("stuck", after_step + 1, what, "raise")
    return None


def _signalled(seen: Observation, name: Name, after_step: int) -> Trouble | None:
    """What the run's own signal of that name says, if it is on and has started since then."""
    for signal in reversed(seen.signals):
        is_it = signal.name == name and signal.state == "started" and signal.step > after_step
        if is_it and name in seen.on:
            return Trouble(name, signal.step, signal.message)
    return None


def _after(points: Iterable[Point], step: int) -> list[Point]:
    return [point for point in points if point.step > step]


def _level(points: Sequence[Point]) -> float | None:
    """The median of the last few; None where there are fewer, or one is no number."""
    values = [point.value for point in points[-FEW:]]
    numbers = [value for value in values if value is not None]
    return median(numbers) if len(numbers) == FEW else None


def _sigma(points: Sequence[Point]) -> float:
    """The noise of one value, from the median change between neighbours, so that no trend counts.

    The change has sqrt(2) sigma, and half of normal values lie within 0.6745 sigma.
    """
    values = [point.value for point in points if point.value is not None]
    changes = [abs(after - before) for before, after in pairwise(values)]
    return median(changes) / (2**0.5 * 0.6745) if changes else 0.0


def _last(points: Sequence[Point]) -> float | None:
    return points[-1].value if points else None


def _first_above(points: Sequence[Point], bar: float) -> int:
    return min(point.step for point in points if point.value is not None and point.value > bar)
