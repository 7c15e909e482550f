"""The queue of commands in SQL: submitted by anybody, settled by the run that holds the lease.

One life: pending -> received -> applying -> applied | rejected | failed | expired, or pending ->
cancelled. A key that needs approval begins it with proposed -> pending | rejected (`approval`). The
order is a number from a counter on the run's row, taken in the transaction that makes the command
pending, so a smaller number is never committed later. No torch here: the API calls `submit` and
`cancel`.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from ingest.ids import content_id
from ingest.keys import UNLIMITED, Limits
from trainer.commands.idempotency import Request
from trainer.commands.inline_mix import with_stored_mix
from trainer.commands.kinds import AnyCommand, Undo
from trainer.commands.limits import check_budget, check_rate
from trainer.commands.references import CommandRefused, check_references
from trainer.commands.undoing import check_undo
from trainer.tables import UNSETTLED, Command, Run

__all__ = [
    "CommandRefused",
    "NotCancellable",
    "RunEnded",
    "Settlement",
    "UnknownRun",
    "cancel",
    "check",
    "expire_unsettled",
    "mark_received",
    "settle",
    "start_applying",
    "submit",
    "take_number",
    "unsettled",
]

CANCELLABLE = ("proposed", "pending")
# `lost` is no end: its process died, and the one that takes over takes what is pending.
ENDED_RUN_STATES = ("finished", "failed", "stopped")


class UnknownRun(LookupError):
    """No run has this id."""


class RunEnded(RuntimeError):
    """Nobody would take the command: the run is finished, failed or stopped."""


class NotCancellable(RuntimeError):
    """The run has the command already, or has settled it."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a command ended; `effective_step` is the first step under it."""

    command_id: str
    state: Literal["applied", "rejected", "failed"]
    at: float
    branch: str
    effective_step: int | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    error: str | None = None


def submit(
    session: Session,
    run_id: str,
    command: AnyCommand,
    *,
    actor: str,
    reason: str = "",
    request: Request | None = None,
    limits: Limits = UNLIMITED,
) -> Command:
    """Store a command with the run's next number, and as made by `request`.

    It is `pending`, or `proposed` where the limits of whoever asks say so. An undo's reason begins
    with what it undoes. Raises UnknownRun, RunEnded, BudgetSpent, or CommandRefused naming the
    argument.
    """
    state, number = take_number(session, run_id)
    if state in ENDED_RUN_STATES:
        raise RunEnded(f"the run is {state}; start it again before you ask something of it")
    undone = check(session, run_id, command, limits.max_lr_factor)
    check_budget(session, run_id, actor, limits.max_commands)
    if undone is not None:
        reason = f"undoes {undone.kind} #{undone.number}" + (f": {reason}" if reason else "")
    command = with_stored_mix(session, run_id, command, actor)
    row = Command(
        command_id=content_id(run_id, str(number)),
        run_id=run_id,
        number=number,
        kind=command.kind,
        args_json=json.dumps(command.arguments()),
        reason=reason,
        actor=actor,
        state="proposed" if limits.needs_approval else "pending",
        created_at=time.time(),
        idempotency_key=request and request.key,
        request_digest=request and request.digest,
        max_lr_factor=limits.max_lr_factor,
    )
    session.add(row)
    session.flush()
    return row


def check(
    session: Session, run_id: str, command: AnyCommand, max_lr_factor: float | None
) -> Command | None:
    """Refuse what can't be carried out as things stand; the answer is what an undo would undo.

    Raises CommandRefused naming the argument; it is RateLimited where the key may not.
    """
    check_references(session, run_id, command)
    undone = None
    if isinstance(command, Undo):
        undone = check_undo(session, run_id, command.command)
    check_rate(session, run_id, command, max_lr_factor)
    return undone


def take_number(session: Session, run_id: str) -> tuple[str, int]:
    """The run's state and its next number; the run stays locked. Raises UnknownRun."""
    taken = session.execute(
        update(Run)
        .where(Run.run_id == run_id)
        .values(command_counter=Run.command_counter + 1)
        .returning(Run.state, Run.command_counter)
    ).first()
    if taken is None:
        raise UnknownRun(f"there is no run {run_id!r}")
    return taken[0], taken[1]


def unsettled(session: Session, run_id: str, *, after: int) -> Sequence[Command]:
    """A run's unsettled commands with a larger number than `after`, in order."""
    return session.scalars(
        select(Command)
        .where(Command.run_id == run_id, Command.number > after, Command.state.in_(UNSETTLED))
        .order_by(Command.number)
    ).all()


def mark_received(session: Session, command_ids: Sequence[str], at: float) -> set[str]:
    """Note that the trainer has these commands; the answer is those that are its own now.

    That leaves out what was cancelled; what a trainer that died had received comes again.
    """
    received_at = func.coalesce(Command.received_at, at)
    # One statement: each gives the interpreter's lock away, 5 ms where somebody else computes.
    marked = session.scalars(
        update(Command)
        .where(Command.command_id.in_(command_ids), Command.state.in_(UNSETTLED))
        .values(state="received", received_at=received_at)
        .returning(Command.command_id)
        .execution_options(synchronize_session=False)
    )
    return set(marked)


def cancel(session: Session, command_id: str, *, actor: str) -> Command:
    """Let nobody take a pending or proposed command; one that is cancelled already stays so.

    Raises NotCancellable once the trainer has it, LookupError where there is none.
    """
    cancelled = update(Command).where(
        Command.command_id == command_id, Command.state.in_(CANCELLABLE)
    )
    session.execute(
        cancelled.values(state="cancelled", settled_at=time.time(), error=f"cancelled by {actor}")
    )
    row = session.get(Command, command_id, populate_existing=True)
    if row is None:
        raise LookupError(f"there is no command {command_id!r}")
    if row.state != "cancelled":
        raise NotCancellable(
            f"the command is {row.state}; a pending or proposed one can be cancelled"
        )
    return row


def start_applying(session: Session, command_id: str) -> None:
    """Note that a command is being applied, which for a rollback or a save takes a moment."""
    session.execute(
        update(Command)
        .where(Command.command_id == command_id, Command.state.in_(UNSETTLED))
        .values(state="applying")
    )


def settle(session: Session, settlement: Settlement) -> None:
    """Write how a command ended; one that is settled already stays as it is."""
    session.execute(
        update(Command)
        .where(Command.command_id == settlement.command_id, Command.state.in_(UNSETTLED))
        .values(
            state=settlement.state,
            settled_at=settlement.at,
            branch=settlement.branch,
            effective_step=settlement.effective_step,
            before_json=_json(settlement.before),
            after_json=_json(settlement.after),
            error=settlement.error,
        )
    )


def expire_unsettled(session: Session, run_id: str, at: float) -> int:
    """Expire what nobody will take any more, in the transaction that ends the run."""
    result = session.execute(
        update(Command)
        .where(Command.run_id == run_id, Command.state.in_(("proposed", *UNSETTLED)))
        .values(state="expired", settled_at=at, error="the run ended first")
    )
    assert isinstance(result, CursorResult)
    return result.rowcount


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
