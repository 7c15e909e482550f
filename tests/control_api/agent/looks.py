"""Observations with only what a test cares about spelled out."""

from collections.abc import Sequence
from typing import Any

from control_api.agent.observation import Allowance, Asked, Checkpoint, Observation, Point, Signal

START = Checkpoint("main-0", "main", 0, 1.0)


def points(values: Sequence[float | None], last_step: int) -> tuple[Point, ...]:
    """Values of the steps up to one."""
    first = last_step - len(values) + 1
    return tuple(Point(first + index, value) for index, value in enumerate(values))


def look(**changed: Any) -> Observation:
    """A run at step 64 that has learnt a little, with nothing wrong; `recent` are its losses."""
    recent = changed.pop("recent", [3.0] * 32)
    norms = changed.pop("norms", [1.0] * 32)
    step = changed.get("step", 64)
    values: dict[str, Any] = {
        "state": "running",
        "branch": "main",
        "forked_at": 0,
        "step": step,
        "max_steps": 10_000,
        "lr": 1.0,
        "start_loss": 4.0,
        "start_grad_norm": 1.0,
        "losses": points(recent, step),
        "recent_losses": points(recent, step),
        "recent_grad_norms": points(norms, step),
        "update_ratios": (),
        "on": (),
        "signals": (),
        "checkpoints": (START,),
        "asked": (),
        "allowance": Allowance(None, None, needs_approval=False),
    }
    return Observation(**(values | changed))


def started(name: str, step: int, message: str = "look at it") -> Signal:
    """A signal of the run's health that started."""
    return Signal(step, name, "started", message)


def asked(kind: str = "rollback", state: str = "applied", **changed: Any) -> Asked:
    """A command of the agent's own."""
    values: dict[str, Any] = {
        "command_id": "c",
        "kind": kind,
        "args": {"checkpoint": "main-0"} if kind == "rollback" else {},
        "reason": "",
        "state": state,
        "branch": "main",
        "effective_step": 1,
        "error": None,
    }
    return Asked(**(values | changed))
