"""Proposals: commands of a key that needs approval, until somebody else has decided.

In: a proposal and a decision. Out: `pending`, from which on it is a command like any other and has
its place in the order; or `rejected`, with the reason. Guaranteed: no run receives a proposal, for
reception looks at what is pending; what was right when it was proposed is checked again, because
the run went on meanwhile.
"""

import json
import time
from dataclasses import dataclass

from sqlalchemy.orm import Session

from trainer.commands.kinds import parse
from trainer.commands.queue import check, take_number
from trainer.tables import Command


class NotProposed(RuntimeError):
    """The command waits for no decision."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decides, and why."""

    actor: str
    reason: str


def approve(session: Session, command_id: str, decision: Decision) -> Command:
    """Let the run take a proposal, after all commands so far.

    Raises LookupError, NotProposed, or what `queue.submit` raises where it can't be taken any more.
    """
    row, number = _proposal(session, command_id)
    command = parse(row.kind, json.loads(row.args_json))
    check(session, row.run_id, command, row.max_lr_factor)
    _decide(row, decision)
    row.state, row.number = "pending", number
    session.flush()
    return row


def refuse(session: Session, command_id: str, decision: Decision) -> Command:
    """Let nobody take a proposal. Raises LookupError or NotProposed."""
    row, _ = _proposal(session, command_id)
    _decide(row, decision)
    row.state, row.settled_at = "rejected", row.decided_at
    row.error = f"refused by {decision.actor}: {decision.reason}"
    session.flush()
    return row


def _proposal(session: Session, command_id: str) -> tuple[Command, int]:
    """The proposal, and the run's next number; the run is locked, so nobody else decides now."""
    row = session.get(Command, command_id)
    if row is None:
        raise LookupError(f"there is no command {command_id!r}")
    _, number = take_number(session, row.run_id)
    session.refresh(row)
    if row.state != "proposed":
        raise NotProposed(f"the command is {row.state}; only a proposed one waits for a decision")
    return row, number


def _decide(row: Command, decision: Decision) -> None:
    row.decided_by, row.decided_at = decision.actor, time.time()
    row.decision_reason = decision.reason
