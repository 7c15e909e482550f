"""What is wrong with a run whose rate may be far too high, told from one observation.

In: an observation, and the step after which its steps count: what the last change of the rate has
not touched says nothing about it. Out: the first trouble that is found, with the step at which it
began at the latest and a sentence with its numbers; or nothing. Pure. The run's own signals (see
`trainer.health.detectors`) are believed; the rest is for what they can't tell before they have seen
enough steps, or can't know: that a run which is calm has learnt nothing since its start.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from control_api.agent.observation import Observation, Point

FEW = 8  # losses whose median is a level
DIVERGED = 1.2  # times the start's loss
EXPLODED = 30.0  # times the start's gradient norm
LEARNT = 0.95  # times the start's loss: from there on something was learnt
PATIENCE_STEPS = 100  # without anything learnt
# |change of the weights| / |weights| of a step: the run's own signal is on above 0.1, and then its
# patience is short; 0.001 is healthy, and a tenth of it too little to blame the rate's height.
SHORT_PATIENCE_STEPS = 24
TOO_SHORT_A_STEP = 1e-4


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
    if level is not None and start is not None and level > DIVERGED * abs(start):
        what = f"the last losses are about {level:.4g}, and the run began at {start:.4g}"
        return Trouble("divergence", _first_above(losses, abs(start)), what)
    return _signalled(seen, "divergence", after_step)


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
    if is_rewritten:
        what += "; each step writes much of the weights anew"
    if seen.update_ratio is not None and seen.update_ratio < TOO_SHORT_A_STEP:
        what += f"; a step changes the weights by {seen.update_ratio:.2g} of their size only"
        return Trouble("stuck", after_step + 1, what, "raise")
    return Trouble("stuck", after_step + 1, what)


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


def _first_above(points: Sequence[Point], bar: float) -> int:
    return min(point.step for point in points if point.value is not None and point.value > bar)
