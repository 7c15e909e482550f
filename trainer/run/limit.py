"""How far a command may move the rates, by each parameter group's own rate in force.

In: the rates that a command starts from, its change of them, the factor that its key is limited to.
Out: nothing, or RateLimited: then the command is rejected, and nothing was changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import Trainer

from trainer.commands.kinds import LrChange
from trainer.commands.limits import check_rates, rates_under
from trainer.loop.groups import chosen_groups
from trainer.loop.interactive import live_schedule


def check_limit(
    trainer: Trainer,
    starts: Sequence[float],
    change: LrChange | None,
    max_lr_factor: float | None,
    inside: str = "",
) -> None:
    """Refuse a change of `starts`, one a group, to rates too far from those in force.

    Raises RateLimited, or CommandRefused where the change is for an unknown group.
    """
    if max_lr_factor is None:
        return
    schedule = live_schedule(trainer)
    changed = [] if change is None else chosen_groups(schedule.names, change.group)
    for index, (in_force, start) in enumerate(zip(schedule.rates, starts, strict=True)):
        if change is not None and index in changed:
            rates = [(f"{inside}{field}", rate) for field, rate in rates_under(change, start)]
        else:
            rates = [("lr", start)]
        check_rates(in_force, rates, max_lr_factor)


def shown_rates(trainer: Trainer, shown: Mapping[str, Any]) -> list[float]:
    """The rates that a snapshot of the schedule holds, one a group; those in force if it has none.

    Like `LiveSchedule.restore`, which brings them back.
    """
    schedule = live_schedule(trainer)
    if "lr" not in shown:
        return schedule.rates
    groups = shown.get("groups", {})
    return [groups.get(name, shown)["lr"] for name in schedule.names]
