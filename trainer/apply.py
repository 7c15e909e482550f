"""What each command does to a live run, between two steps.

In: a received command, the run, its trainer. Out: an `Effect`: what was before and after, and the
facts to be journalled with it. Everything that can be refused is looked at before anything changes:
CommandRefused rejects a command; CheckpointFailed, CheckpointDamaged and an absent database fail it
with nothing changed; only RestoreFailed leaves a run that can't go on.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, assert_never

from transformers import Trainer

from ingest.ids import content_id
from trainer.command_entries import EvaluationAsked
from trainer.commands import (
    Evaluate,
    LrChange,
    Pause,
    Resume,
    Rollback,
    Save,
    SetLr,
    SetMix,
    Stop,
)
from trainer.entries import Entry
from trainer.inbox import Received
from trainer.interactive import live_schedule
from trainer.lineage import BranchOpened
from trainer.live import LiveRun
from trainer.references import CommandRefused, MixVersion
from trainer.supply import Repeat

FLUSH_S = 2.0


@dataclass(frozen=True, slots=True)
class Effect:
    """What a command changed; `entries` are committed with its settlement or not at all."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    entries: tuple[Entry, ...] = ()


def apply(received: Received, run: LiveRun, trainer: Trainer) -> Effect:
    """Carry out one command at a step boundary."""
    match received.command:
        case SetLr() as command:
            effect = _set_lr(command, run, trainer)
        case SetMix():
            effect = _set_mix(received.mix, run, trainer)
        case Pause():
            effect = _set_paused(run, is_paused=True)
        case Resume():
            effect = _set_paused(run, is_paused=False)
        case Stop():
            effect = _set_paused(run, is_paused=False)
            run.is_ending = True
        case Save() as command:
            effect = _save(command, run, trainer)
        case Rollback() as command:
            effect = _roll_back(command, received.mix, run, trainer)
        case Evaluate() as command:
            effect = _evaluate(command, received.command_id, run, trainer)
        case None:
            raise CommandRefused("args", received.refusal or "not understood")
        case _:
            assert_never(received.command)
    return effect


def change(run: LiveRun, trainer: Trainer, lr: LrChange | None, mix: MixVersion | None) -> None:
    """Another rate, another mix, or both, from the next step on."""
    if lr is not None:
        live_schedule(trainer).change(lr)
    if mix is not None:
        run.supply.set_mix(mix)


def _set_lr(command: SetLr, run: LiveRun, trainer: Trainer) -> Effect:
    before = _lr(trainer)
    for rate in live_schedule(trainer).rates:
        _check_lr(command, rate, "value" if command.factor is None else "factor")
    change(run, trainer, command, None)
    return Effect(before, _lr(trainer))


def _set_mix(mix: MixVersion | None, run: LiveRun, trainer: Trainer) -> Effect:
    before = _mix(run)
    change(run, trainer, None, mix)
    return Effect(before, _mix(run))


def _set_paused(run: LiveRun, *, is_paused: bool) -> Effect:
    before = {"is_paused": run.is_paused}
    run.is_paused = is_paused
    return Effect(before, {"is_paused": is_paused})


def _save(command: Save, run: LiveRun, trainer: Trainer) -> Effect:
    saved = run.save(trainer, name=command.name, note=command.note)
    return Effect({}, {"checkpoint_id": saved.checkpoint_id, "name": saved.name}, (saved,))


def _evaluate(command: Evaluate, command_id: str, run: LiveRun, trainer: Trainer) -> Effect:
    entries: list[Entry] = []
    checkpoint = run.register.of_step(run.branch, trainer.state.global_step)
    if checkpoint is None:
        checkpoint = run.save(trainer, note=f"to be judged on {command.suite}")
        entries.append(checkpoint)
    asked = EvaluationAsked(
        evaluation_id=content_id(command_id, command.suite),
        checkpoint_id=checkpoint.checkpoint_id,
        suite=command.suite,
        command_id=command_id,
        at=time.time(),
    )
    after = {
        "evaluation_id": asked.evaluation_id,
        "checkpoint_id": checkpoint.checkpoint_id,
        "step": checkpoint.step,
    }
    return Effect({}, after, (*entries, asked))


def _roll_back(command: Rollback, mix: MixVersion | None, run: LiveRun, trainer: Trainer) -> Effect:
    target = run.register.find(command.checkpoint)
    branch = run.free_branch(command.branch)
    position = run.read(target).position
    _check_lr(command.set_lr, position.lr, "set_lr")
    if not run.journal.flush(FLUSH_S):
        raise TimeoutError("the database is away; a rollback reads the adoptions from it")
    tip = run.save(trainer, note=f"the tip before the rollback to {target.name}")
    run.journal.write(tip)
    repeats = [Repeat(target.branch, run.tips[target.branch], is_own=False)]
    run.restore(trainer, target, position, repeats if command.hold_data else [])
    run.open_branch(branch, target.step)
    change(run, trainer, command.set_lr, mix)
    opened = BranchOpened(
        name=branch,
        parent=target.branch,
        from_step=target.step,
        from_checkpoint=target.checkpoint_id,
        from_adoption=position.adoption,
        at=time.time(),
    )
    before = {"branch": tip.branch, "step": tip.step, "checkpoint_id": tip.checkpoint_id}
    after = {
        "branch": branch,
        "step": target.step,
        "checkpoint_id": target.checkpoint_id,
        "hold_until": run.supply.hold_until,
    }
    return Effect(before, after | _lr(trainer) | _mix(run), (opened,))


def _check_lr(change: LrChange | None, rate: float, field: str) -> None:
    try:
        if change is not None:
            change.applied_to(rate)
    except ValueError as error:
        raise CommandRefused(field, str(error)) from error


def _lr(trainer: Trainer) -> dict[str, Any]:
    return {"lr": live_schedule(trainer).rates[0]}


def _mix(run: LiveRun) -> dict[str, Any]:
    return {"mix": asdict(run.supply.mix)}
