"""Proposals over HTTP: somebody decides what a key that needs approval has asked for.

In: a proposed command, a decision and its reason. Out: the command, `pending` or already received;
or `rejected`. Guaranteed: who has limits decides nothing, so neither does who proposed; what the
run has meanwhile made impossible, or what its new rate has put beyond the key's limit, is refused
and stays proposed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from control_api.asking import refusals
from control_api.audit import record
from control_api.commands import Command, after_reception
from control_api.paging import none_found
from control_api.request import Database, Operator, actor_of, reading_router
from ingest.database import write
from ingest.keys import UNLIMITED, Caller
from ingest.openapi import problems
from ingest.problems import Problem
from trainer.commands.approval import Decision, NotProposed, approve, refuse

router = reading_router("commands")


class Approval(BaseModel):
    """Why a proposal is approved."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500, description="kept with the command for whoever asks")


class Refusal(BaseModel):
    """Why a proposal is refused."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=500, description="whoever proposed it reads it")


def _judge(caller: Operator) -> Caller:
    if caller.limits != UNLIMITED:
        raise Problem(
            403,
            "Forbidden",
            "a key with limits decides on no proposal, neither its own nor another's; ask somebody "
            "with a key without limits",
        )
    return caller


Judge = Annotated[Caller, Depends(_judge)]


@contextmanager
def _undecided(command_id: str) -> Iterator[None]:
    try:
        yield
    except NotProposed as error:
        raise Problem(409, "Not proposed", str(error)) from error
    except LookupError as error:
        raise none_found("command", command_id) from error


@router.post("/commands/{command_id}/approve", responses=problems(404, 409))
def approve_command(
    engine: Database, caller: Judge, command_id: str, asked: Approval | None = None
) -> Command:
    """Let the run take a proposal; its place is after all commands so far."""
    reason = "" if asked is None else asked.reason
    with write(engine) as session, refusals(), _undecided(command_id):
        approve(session, command_id, Decision(actor_of(caller), reason))
        record(session, caller, "command.approve", command_id, reason=reason)
    return after_reception(engine, command_id)


@router.post("/commands/{command_id}/refuse", responses=problems(404, 409))
def refuse_command(engine: Database, caller: Judge, command_id: str, asked: Refusal) -> Command:
    """Let nobody take a proposal: it is `rejected`, with the reason as its error."""
    with write(engine) as session, _undecided(command_id):
        row = refuse(session, command_id, Decision(actor_of(caller), asked.reason))
        record(session, caller, "command.refuse", command_id, reason=asked.reason)
        return Command.model_validate(row)
