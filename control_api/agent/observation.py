"""What one look at a run shows an agent: small enough for a prompt, enough for a decision.

Everything is of the run's line: the branch that it is on, and of checkpoints those of its ancestors
from before their forks; what a rollback has left behind is not shown. `None` is a value that is no
number.
"""

from dataclasses import asdict, dataclass
from typing import Any

ENDED = ("finished", "failed", "stopped")


@dataclass(frozen=True)
class Point:
    """One value, at its step."""

    step: int
    value: float | None


@dataclass(frozen=True)
class Signal:
    """A signal of the run's health that started or ended on the line."""

    step: int
    name: str
    state: str
    message: str


@dataclass(frozen=True)
class Asked:
    """A command of the agent's own, and what became of it."""

    command_id: str
    kind: str
    args: dict[str, Any]
    reason: str
    state: str
    branch: str | None
    effective_step: int | None
    error: str | None


@dataclass(frozen=True)
class Checkpoint:
    """A state of the line that a rollback may go to."""

    name: str
    branch: str
    step: int
    lr: float


@dataclass(frozen=True)
class Allowance:
    """What the agent's key may still do; None: without limit."""

    commands_left: int | None
    max_lr_factor: float | None
    needs_approval: bool


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A run at one moment.

    `forked_at` is the step after which the branch began; `start_*` are the run's first values, of
    which no update has touched the loss. `losses` are the branch's, thinned out; the `recent_*`
    ones are the last steps', every one; `update_ratios` are the branch's, as often as the run
    measures them. All these and `signals` are in the order of their steps; `asked` and
    `checkpoints` are newest first. `on` are the signals that are on.
    """

    state: str
    branch: str
    forked_at: int
    step: int
    max_steps: int
    lr: float
    start_loss: float | None
    start_grad_norm: float | None
    losses: tuple[Point, ...]
    recent_losses: tuple[Point, ...]
    recent_grad_norms: tuple[Point, ...]
    update_ratios: tuple[Point, ...]
    on: tuple[str, ...]
    signals: tuple[Signal, ...]
    checkpoints: tuple[Checkpoint, ...]
    asked: tuple[Asked, ...]
    allowance: Allowance

    @property
    def has_ended(self) -> bool:
        """Whether the run takes no more commands."""
        return self.state in ENDED

    def shown(self) -> dict[str, Any]:
        """As JSON values, the curves as pairs of step and value."""
        shown = asdict(self)
        for name in ("losses", "recent_losses", "recent_grad_norms", "update_ratios"):
            shown[name] = [[point["step"], _rounded(point["value"])] for point in shown[name]]
        return shown


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
