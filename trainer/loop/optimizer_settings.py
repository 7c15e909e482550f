"""An optimizer's settings beside the rate: read, changed and restored in its parameter groups.

In: an optimizer, the names of its groups, what is asked. Out: the settings in force from the next
step on. torch reads them from the groups in every step and saves them with the optimizer's state.
Guaranteed: what an optimizer does not have, or could not do a step with, is refused and nothing
is changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import SGD, Optimizer

from trainer.commands.kinds import SetOptimizer
from trainer.commands.references import CommandRefused
from trainer.loop.groups import NO_DECAY, chosen_groups

Settings = dict[str, dict[str, Any]]

_NUM_NUMBERS = {"betas": 2, "eps": 1, "weight_decay": 1, "momentum": 1}


def settings_of(optimizer: Optimizer, names: Sequence[str]) -> Settings:
    """What may be set, by group, as JSON values."""
    return {
        name: {
            setting: list(group[setting]) if setting == "betas" else group[setting]
            for setting in _settable(group)
        }
        for name, group in zip(names, optimizer.param_groups, strict=True)
    }


def change_settings(optimizer: Optimizer, names: Sequence[str], command: SetOptimizer) -> None:
    """Set what is asked of parameter groups. Raises CommandRefused, with nothing changed."""
    asked = command.group_settings()
    chosen = chosen_groups(names, command.group)
    for index in chosen:
        for setting, value in asked.items():
            _check(optimizer, optimizer.param_groups[index], setting, value)
    for index in chosen:
        for setting, value in asked.items():
            if not (command.group is None and _stays(names[index], setting)):
                optimizer.param_groups[index][setting] = value


def restore_settings(
    optimizer: Optimizer, names: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> None:
    """Go back to what `settings_of` gave."""
    for name, group in zip(names, optimizer.param_groups, strict=True):
        for setting, value in settings[name].items():
            group[setting] = tuple(value) if setting == "betas" else value


def _stays(name: str, setting: str) -> bool:
    return setting == "weight_decay" and name == NO_DECAY


def _settable(group: Mapping[str, Any]) -> list[str]:
    return [name for name, count in _NUM_NUMBERS.items() if _has(group.get(name), count)]


def _has(value: object, count: int) -> bool:
    """Whether it is that many plain numbers: Adafactor's `eps` are two, which is another thing."""
    if count == 1:
        return isinstance(value, int | float)
    return isinstance(value, tuple) and len(value) == count and all(_has(v, 1) for v in value)


def _check(optimizer: Optimizer, group: Mapping[str, Any], setting: str, value: float) -> None:
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps the real one
    kind = type(inner).__name__
    settable = _settable(group)
    if setting not in settable:
        has = ", ".join(settable) or "none of these settings"
        raise CommandRefused(setting, f"{kind} has no such setting; it has {has}")
    if setting != "momentum" or (value > 0) == (group["momentum"] > 0):
        return
    if group.get("nesterov"):
        raise CommandRefused(setting, "Nesterov's momentum must stay above 0")
    if not isinstance(inner, SGD):
        # It makes its buffers in its first step, and fails in a later one that misses them.
        raise CommandRefused(setting, f"{kind} can't begin or end to have momentum on the way")
