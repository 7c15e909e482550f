"""What each command does to a live run, between two steps.

In: a received command, the run, its trainer. Out: an `Effect`: what was before and after, and the
facts to be journalled with it. Everything that can be refused is looked at before anything changes:
CommandRefused rejects a command; CheckpointFailed, CheckpointDamaged and an absent database fail it
with nothing changed; only RestoreFailed leaves a run that can't go on.
"""

import time
from typing import assert_never

from transformers import Trainer

from ingest.ids import content_id
from trainer.commands.inbox import Received
from trainer.commands.kinds import (
    Evaluate,
    Freeze,
    Pause,
    ResetParameters,
    Resume,
    Rollback,
    Save,
    SetLr,
    SetMix,
    SetOptimizer,
    Stop,
    Undo,
    Unfreeze,
)
from trainer.commands.references import CommandRefused, MixVersion
from trainer.journal.command_entries import EvaluationAsked
from trainer.journal.lineage import BranchOpened, CheckpointSaved
from trainer.loop.interactive import evaluates_itself, live_schedule
from trainer.run.aspects import aspects_like, lr_of, mix_of_run, paused, restore_aspects
from trainer.run.effect import Effect, OnceSaved
from trainer.run.limit import check_limit, shown_rates
from trainer.run.live import LiveRun
from trainer.run.orders import Judge
from trainer.run.supply import Repeat
from trainer.run.tuning import check_lr, tune

FLUSH_S = 2.0


def apply(received: Received, run: LiveRun, trainer: Trainer) -> Effect | OnceSaved:
    """Carry out one command at a step boundary."""
    effect: Effect | OnceSaved
    match received.command:
        case SetLr() | SetOptimizer() | Freeze() | Unfreeze() | ResetParameters() as command:
            if isinstance(command, SetLr):
                rates = live_schedule(trainer).rates
                check_limit(trainer, rates, command, received.max_lr_factor)
            effect = tune(command, run, trainer, received.number)
        case SetMix():
            effect = _set_mix(received.mix, run)
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
            effect = _roll_back(command, received, run, trainer)
        case Evaluate() as command:
            effect = _evaluate(command, received.command_id, run, trainer)
        case Undo() as command:
            effect = _undo(command, received, run, trainer)
        case None:
            raise CommandRefused("args", received.refusal or "not understood")
        case _:
            assert_never(received.command)
    return effect


def _set_mix(mix: MixVersion | None, run: LiveRun) -> Effect:
    before = mix_of_run(run)
    assert mix is not None
    run.supply.check_mix(mix, "name")
    run.supply.set_mix(mix)
    return Effect(before, mix_of_run(run))


def _set_paused(run: LiveRun, *, is_paused: bool) -> Effect:
    before = paused(run)
    run.is_paused = is_paused
    return Effect(before, paused(run))


def _undo(command: Undo, received: Received, run: LiveRun, trainer: Trainer) -> Effect:
    """Restore what the command found; a rollback's tip comes back on a branch of its own."""
    done = run.undoables.find(command.command)
    if done.kind == "rollback":
        tip = Rollback(checkpoint=done.before["checkpoint_id"])
        return _roll_back(tip, received, run, trainer)
    check_limit(trainer, shown_rates(trainer, done.before), None, received.max_lr_factor)
    now = aspects_like(run, trainer, done.before)
    restore_aspects(run, trainer, done.before)
    return Effect(now, aspects_like(run, trainer, done.before))


def _save(command: Save, run: LiveRun, trainer: Trainer) -> OnceSaved:
    saving = run.save(trainer, name=command.name, note=command.note, keep=command.keep)
    return OnceSaved(
        saving,
        lambda saved: Effect({}, {"checkpoint_id": saved.checkpoint_id, "name": saved.name}),
    )


def _evaluate(
    command: Evaluate, command_id: str, run: LiveRun, trainer: Trainer
) -> Effect | OnceSaved:
    step = trainer.state.global_step
    if evaluates_itself(trainer):
        return _evaluate_here(run, trainer)
    checkpoint = run.register.of_step(run.branch, step)
    if checkpoint is not None:
        return _judge(command, command_id, checkpoint)
    saving = run.saver.of_step(run.branch, step)
    if saving is None:
        saving = run.save(trainer, note=f"to be judged on {command.suite}")
    return OnceSaved(saving, lambda saved: _judge(command, command_id, saved))


def _evaluate_here(run: LiveRun, trainer: Trainer) -> Effect:
    if trainer.eval_dataset is None:
        raise CommandRefused("suite", "the Trainer was given no eval_dataset")
    step, metrics = trainer.state.global_step, run.ranks.together(Judge(), trainer.evaluate)
    return Effect({}, {"step": step, "metrics": metrics})


def _judge(command: Evaluate, command_id: str, checkpoint: CheckpointSaved) -> Effect:
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
    return Effect({}, after, (asked,))


def _roll_back(command: Rollback, received: Received, run: LiveRun, trainer: Trainer) -> Effect:
    run.saver.wait()  # it may be the one to go back to, and what is written may let old ones go
    target = run.register.find(command.checkpoint)
    branch = run.free_branch(command.branch)
    if received.mix is not None:
        run.supply.check_mix(received.mix, "set_mix")
    manifest = run.manifest(target)
    position = manifest.position
    check_lr(command.set_lr, position.rates, trainer, "set_lr.")
    limit = received.max_lr_factor
    check_limit(trainer, position.rates, command.set_lr, limit, "set_lr.")
    if not run.journal.flush(FLUSH_S):
        raise TimeoutError("the database is away; a rollback reads the adoptions from it")
    exchange = run.read(trainer, target, manifest)
    repeats = [Repeat(target.branch, run.tips[target.branch], is_own=False)]
    tip = run.leave(trainer, target, position, repeats if command.hold_data else [], exchange)
    run.open_branch(branch, target.step)
    if command.set_lr is not None:
        live_schedule(trainer).change(command.set_lr)
    if received.mix is not None:
        run.supply.set_mix(received.mix)
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
    return Effect(before, after | lr_of(trainer) | mix_of_run(run), (opened,))
