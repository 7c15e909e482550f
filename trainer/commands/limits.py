"""What a limited key may ask of a run: so many commands, and rates so far from the one in force.

In: a command, or a change of the rate, and the limits of whoever asks. Out: nothing, or the limit
that it would pass, with what is allowed. A schedule is judged by its ends, between which all of its
rates lie; a rollback and an undo by the rates that come back with them. Judged twice: when asked,
by the rate of the first parameter group, which is all that SQL knows; and where it is applied, by
each group's own (`trainer.run.limit`), so that each command of a burst counts from the one before.
"""

import json
import math
from collections.abc import Iterable, Iterator

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from trainer.commands.kinds import AnyCommand, LrChange, Rollback, SetLr, Undo
from trainer.commands.references import CommandRefused
from trainer.tables import Checkpoint, Command, Run

# Floats that were divided and multiplied again are still the allowed factor.
ROUNDING = 1 + 1e-9


class RateLimited(CommandRefused):
    """The rate would move further from the one in force than the key may move it."""

    def __init__(self, field: str, detail: str, allowed: float) -> None:
        super().__init__(field, detail)
        self.allowed = allowed


class BudgetSpent(RuntimeError):
    """The key has asked as much of the run as it may."""

    def __init__(self, allowed: int) -> None:
        super().__init__(
            f"this key has asked {allowed} commands of the run, which is all that it may; another "
            "key has a budget of its own (stovetop keys create --max-commands)"
        )
        self.allowed = allowed


def check_budget(session: Session, run_id: str, actor: str, max_commands: int | None) -> None:
    """Raises BudgetSpent; every command that was stored counts, whatever became of it."""
    if max_commands is None:
        return
    asked = select(func.count()).where(Command.run_id == run_id, Command.actor == actor)
    if (session.scalar(asked) or 0) >= max_commands:
        raise BudgetSpent(max_commands)


def check_rate(
    session: Session, run_id: str, command: AnyCommand, max_lr_factor: float | None
) -> None:
    """Raises RateLimited where a command would move the rate too far from the run's."""
    if max_lr_factor is None:
        return
    in_force = session.get_one(Run, run_id).lr
    check_rates(in_force, _rates(session, run_id, command, in_force), max_lr_factor)


def check_rates(in_force: float, rates: Iterable[tuple[str, float]], max_lr_factor: float) -> None:
    """Raises RateLimited for the first of these rates, each with its field, that is too far."""
    for field, rate in rates:
        low, high = sorted((in_force, rate))
        factor = high / low if low > 0 else math.inf
        if factor > max_lr_factor * ROUNDING:
            raise RateLimited(
                field,
                f"the lr would go from {in_force:g} to {rate:g}, by a factor of {factor:g}; this "
                f"key may move it by {max_lr_factor:g} with one command: ask for "
                f"{in_force / max_lr_factor:g} to {in_force * max_lr_factor:g}",
                max_lr_factor,
            )


def rates_under(change: LrChange, start: float) -> Iterator[tuple[str, float]]:
    """The rates between which a change moves the one that it starts from, each with its field."""
    if change.value is not None:
        yield "value", change.value
    if change.factor is not None:
        yield "factor", start * change.factor
    if change.schedule is not None:
        if change.schedule.warm_up_steps:
            yield "schedule.warm_up_steps", change.schedule.course(start).rate
            yield "schedule", start if change.schedule.shape != "constant" else change.schedule.to
        yield "schedule.to", change.schedule.to


def _rates(
    session: Session, run_id: str, command: AnyCommand, in_force: float
) -> Iterator[tuple[str, float]]:
    match command:
        case SetLr():
            yield from rates_under(command, in_force)
        case Rollback():
            restored = _saved_rate(session, run_id, command.checkpoint, in_force)
            change = command.set_lr
            if change is None or change.group is not None:
                yield "checkpoint", restored
            if change is not None:
                yield from (
                    (f"set_lr.{field}", rate) for field, rate in rates_under(change, restored)
                )
        case Undo():
            undone = session.get_one(Command, command.command)
            before = json.loads(undone.before_json or "{}")
            if undone.kind == "rollback":
                yield "command", _saved_rate(session, run_id, before["checkpoint_id"], in_force)
            elif "lr" in before:
                yield "command", before["lr"]


def _saved_rate(session: Session, run_id: str, wanted: str, in_force: float) -> float:
    """The rate at a checkpoint; one that is still to be saved will have the rate in force."""
    saved = select(Checkpoint.lr).where(
        Checkpoint.run_id == run_id,
        or_(Checkpoint.checkpoint_id == wanted, Checkpoint.name == wanted),
    )
    rate = session.scalars(saved).first()
    return in_force if rate is None else rate
