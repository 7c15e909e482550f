"""The aspects of a run that commands change: each as JSON, and back from it, exactly.

In: a live run and its trainer. Out: what is in force now, as a command's row keeps it for `before`
and `after`; and restored from such a row, for an undo and for what is done again after a crash.
Guaranteed: floats come back bit for bit, for JSON holds the shortest text that names them. Restored
is what a row has and an aspect knows; a checkpoint's name or a branch in it means nothing here.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from transformers import Trainer

from trainer.commands.references import MixVersion
from trainer.loop.interactive import frozen_of, live_schedule, model_of
from trainer.loop.modules import parameters_named
from trainer.loop.optimizer_settings import restore_settings, settings_of
from trainer.run.live import Steered, frozen_names

Shown = dict[str, Any]

_MIX = TypeAdapter(MixVersion)


def lr_of(trainer: Trainer) -> Shown:
    """The rate, and each group's rate and schedule where they differ."""
    return live_schedule(trainer).snapshot()


def optimizer_of(trainer: Trainer) -> Shown:
    """The optimizer's other settings by group, and the norm that gradients are clipped to."""
    schedule = live_schedule(trainer)
    return {
        "optimizer": settings_of(schedule.optimizer, schedule.names),
        "max_grad_norm": trainer.args.max_grad_norm,
    }


def frozen_in(trainer: Trainer) -> Shown:
    """What stands still."""
    return {"frozen": frozen_names(trainer)}


def mix_of_run(run: Steered) -> Shown:
    """The mix that is drawn from."""
    return {"mix": asdict(run.supply.mix)}


def paused(run: Steered) -> Shown:
    """Whether the run waits."""
    return {"is_paused": run.is_paused}


def aspects_like(run: Steered, trainer: Trainer, shown: Mapping[str, Any]) -> Shown:
    """What is in force now of every aspect that `shown` holds."""
    now: Shown = {}
    if "lr" in shown:
        now |= lr_of(trainer)
    if "optimizer" in shown:
        now |= optimizer_of(trainer)
    if "frozen" in shown:
        now |= frozen_in(trainer)
    if "mix" in shown:
        now |= mix_of_run(run)
    if "is_paused" in shown:
        now |= paused(run)
    return now


def restore_aspects(run: Steered, trainer: Trainer, shown: Mapping[str, Any]) -> None:
    """Bring back every aspect that `shown` holds."""
    schedule = live_schedule(trainer)
    if "lr" in shown:
        schedule.restore(shown)
    if "optimizer" in shown:
        restore_settings(schedule.optimizer, schedule.names, shown["optimizer"])
        trainer.args.max_grad_norm = shown["max_grad_norm"]
    if "frozen" in shown:
        frozen_of(trainer).set(parameters_named(model_of(trainer), shown["frozen"]))
    if "mix" in shown:
        run.supply.set_mix(_MIX.validate_python(shown["mix"]))
    if "is_paused" in shown:
        run.is_paused = shown["is_paused"]
