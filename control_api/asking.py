"""From a command that somebody asks for to its row, or to the refusal that says why not.

In: who asks what of which run. Out: the command's id. Guaranteed: the same `Idempotency-Key` with
the same body makes one command, however often it comes; 409 is for what the run's state forbids,
422 for what is wrong in itself or for this key, 403 for a key that has asked all that it may.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from control_api.audit import record
from control_api.request import actor_of, invalid
from ingest.database import write
from ingest.keys import Caller
from ingest.problems import FieldError, Problem
from trainer.commands.idempotency import KeyReused, Request, find_repeated
from trainer.commands.kinds import AnyCommand
from trainer.commands.limits import BudgetSpent, RateLimited
from trainer.commands.queue import CommandRefused, RunEnded, submit
from trainer.commands.undoing import NotUndoable


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks what of which run, why, and with which Idempotency-Key."""

    run_id: str
    command: AnyCommand
    caller: Caller
    reason: str
    key: str | None


def ask(engine: Engine, asking: Asking) -> tuple[str, bool]:
    """Store a command; its id, and whether it is new: not asked before with the same key.

    Raises Problem.
    """
    with write(engine) as session, refusals():
        return _store(session, asking)


@contextmanager
def refusals() -> Iterator[None]:
    """Why a command can't be taken, as a Problem."""
    try:
        yield
    except RunEnded as ended:
        raise Problem(409, "The run has ended", str(ended)) from ended
    except KeyReused as reused:
        raise Problem(409, "Key used before", f"Idempotency-Key: {reused}") from reused
    except NotUndoable as error:
        raise Problem(409, "Not undoable", error.detail) from error
    except BudgetSpent as spent:
        raise _spent(spent) from spent
    except RateLimited as limited:
        raise _too_far(limited) from limited
    except CommandRefused as refused:
        raise invalid(f"args.{refused.field}", refused.detail) from refused


def _spent(spent: BudgetSpent) -> Problem:
    return Problem(403, "Budget spent", str(spent), limit="max_commands", allowed=spent.allowed)


def _too_far(limited: RateLimited) -> Problem:
    field = f"args.{limited.field}"
    return Problem(
        422,
        "Beyond the key's limit",
        f"{field}: {limited.detail}",
        errors=[FieldError(field=field, message=limited.detail)],
        limit="max_lr_factor",
        allowed=limited.allowed,
    )


def _store(session: Session, asking: Asking) -> tuple[str, bool]:
    request, actor = None, actor_of(asking.caller)
    if asking.key is not None:
        request = Request.of(asking.key, asking.command, asking.reason)
        made = find_repeated(session, asking.run_id, actor, request)
        if made is not None:
            return made.command_id, False
    stored = submit(
        session,
        asking.run_id,
        asking.command,
        actor=actor,
        reason=asking.reason,
        request=request,
        limits=asking.caller.limits,
    )
    record(
        session,
        asking.caller,
        "command.ask",
        stored.command_id,
        run_id=asking.run_id,
        kind=stored.kind,
        args=orjson.loads(stored.args_json),
        reason=asking.reason,
    )
    return stored.command_id, True
