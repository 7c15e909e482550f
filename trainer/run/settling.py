"""From a received command to its settlement: applied, rejected, or failed.

In: a command, the run, its trainer, between two steps. Out: the settlement and every fact that goes
with it, in one entry, so that the database never holds half of a command. Guaranteed: whatever goes
wrong with a command is that command's end and not the run's, unless a checkpoint was restored half
way or the run was taken over.
"""

import time
from typing import Literal

import structlog
from transformers import Trainer

from trainer.commands.inbox import Received
from trainer.commands.queue import Settlement
from trainer.commands.references import CommandRefused
from trainer.commands.undoing import Done
from trainer.journal.command_entries import CommandSettled
from trainer.journal.entries import Entry, Together
from trainer.journal.lease import LeaseLost
from trainer.run.apply import apply
from trainer.run.effect import Effect
from trainer.run.live import LiveRun, RestoreFailed

log = structlog.get_logger()


def carry_out(received: Received, run: LiveRun, trainer: Trainer) -> Together:
    """Apply a command; the answer is to be journalled."""
    settlement, entries = _settle(received, run, trainer)
    run.command_number = received.number
    log.info("command_settled", command_id=received.command_id, state=settlement.state)
    return Together((*entries, CommandSettled(settlement), run.moved(trainer)))


def _settle(
    received: Received, run: LiveRun, trainer: Trainer
) -> tuple[Settlement, tuple[Entry, ...]]:
    try:
        effect = apply(received, run, trainer)
    except (LeaseLost, RestoreFailed):
        raise
    except CommandRefused as error:
        return _unapplied(received, run, "rejected", error), ()
    except Exception as error:
        log.exception("command_failed", command_id=received.command_id)
        return _unapplied(received, run, "failed", error), ()
    _note(received, effect, run)
    settlement = Settlement(
        command_id=received.command_id,
        state="applied",
        at=time.time(),
        branch=run.branch,
        effective_step=trainer.state.global_step + 1,
        before=dict(effect.before),
        after=dict(effect.after),
    )
    return settlement, effect.entries


def _note(received: Received, effect: Effect, run: LiveRun) -> None:
    command = received.command
    assert command is not None
    done = Done(
        received.command_id, received.number, command.kind, command.arguments(), effect.before
    )
    run.undoables.note(done)


def _unapplied(
    received: Received, run: LiveRun, state: Literal["rejected", "failed"], error: Exception
) -> Settlement:
    return Settlement(received.command_id, state, time.time(), run.branch, error=str(error))
