"""From a received command to its settlement: applied, rejected, or failed.

In: a command, the run, its trainer, between two steps. Out: the settlement and every fact that goes
with it, in one entry, so that the database never holds half of a command. Guaranteed: whatever goes
wrong with a command is that command's end and not the run's, unless a checkpoint was restored half
way, the run was taken over, or another rank can't do what this one did.
"""

import structlog
from transformers import Trainer

from trainer.checkpoints.folder import CheckpointFailed
from trainer.commands.inbox import Received
from trainer.commands.kinds import ResetParameters
from trainer.commands.references import CommandRefused
from trainer.commands.undoing import Done
from trainer.journal.entries import Entry, Together
from trainer.journal.lease import LeaseLost
from trainer.ranks.alone import RankLost
from trainer.run.apply import apply
from trainer.run.effect import Effect, OnceSaved, applied, unapplied
from trainer.run.live import LiveRun, RestoreFailed
from trainer.run.orders import PutInForce
from trainer.run.saving import Outcome, Settle

log = structlog.get_logger()


def carry_out(received: Received, run: LiveRun, trainer: Trainer) -> None:
    """Apply a command; the answer goes into the journal, now or once a checkpoint is written."""
    settled = _settle(received, run, trainer)
    run.command_number = received.number
    if settled:
        run.journal.write(Together((*settled, run.moved(trainer))))


def _settle(received: Received, run: LiveRun, trainer: Trainer) -> tuple[Entry, ...]:
    try:
        effect = apply(received, run, trainer)
    except (LeaseLost, RestoreFailed, RankLost):
        raise
    except CommandRefused as error:
        log.info("command_rejected", command_id=received.command_id, reason=str(error))
        return unapplied(received, "rejected", error, branch=run.branch)
    except Exception as error:
        log.exception("command_failed", command_id=received.command_id)
        return unapplied(received, "failed", error, branch=run.branch)
    step = trainer.state.global_step + 1
    if isinstance(effect, OnceSaved):
        effect.saving.once_over(_settle_then(received, effect, run.branch, step), run.journal.write)
        return ()
    _note(received, effect, run)
    run.ranks.together(_put_in_force(received, effect), lambda: None)
    log.info("command_applied", command_id=received.command_id, effective_step=step)
    return applied(received, effect, branch=run.branch, effective_step=step)


def _put_in_force(received: Received, effect: Effect) -> PutInForce:
    command = received.command
    reset = command if isinstance(command, ResetParameters) else None
    return PutInForce(after=dict(effect.after), number=received.number, reset=reset)


def _settle_then(received: Received, once_saved: OnceSaved, branch: str, step: int) -> Settle:
    def settle(outcome: Outcome) -> tuple[Entry, ...]:
        if isinstance(outcome, CheckpointFailed):
            return unapplied(received, "failed", outcome, branch=branch)
        return applied(received, once_saved.effect(outcome), branch=branch, effective_step=step)

    return settle


def _note(received: Received, effect: Effect, run: LiveRun) -> None:
    command = received.command
    assert command is not None
    done = Done(
        received.command_id, received.number, command.kind, command.arguments(), effect.before
    )
    run.undoables.note(done)
