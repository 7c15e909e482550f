"""Commands over HTTP: something is asked of a run, and what became of it.

In: `{kind, args, reason}`. Out: 201 with the stored command. Guaranteed: what is stored is valid;
`received` in the answer means that the trainer has it and obeys from the next step boundary on;
`pending` that it will take it when it can. Decision: the answer waits at most 200 ms for that.
"""

import time
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from sqlalchemy import Engine, select

from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Database, Operator, actor_of, invalid, reading_router
from control_api.runs import RunKey, find_run
from ingest.database import read, write
from ingest.openapi import problems
from ingest.problems import FieldError, Problem
from trainer import tables
from trainer.command_queue import CommandRefused, RunEnded, submit
from trainer.commands import AnyCommand, parse

RECEPTION_WAIT_S = 0.2
RECEPTION_LOOK_S = 0.005

router = reading_router("commands")


class AskedCommand(BaseModel):
    """What is asked of a run, and why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"kind": "set_lr", "args": {"value": 2e-4}, "reason": "the loss oscillates"},
                {"kind": "set_mix", "args": {"name": "half"}},
                {"kind": "rollback", "args": {"checkpoint": "before", "hold_data": True}},
            ]
        },
    )

    kind: str = Field(
        description="set_lr, set_mix, pause, resume, stop, save, rollback or evaluate"
    )
    args: dict[str, Any] = Field(
        {},
        description="set_lr: value or factor; set_mix: name, version?; save: name?, note?; "
        "rollback: checkpoint, branch?, set_lr?, set_mix?, hold_data?; evaluate: suite; "
        "pause, resume and stop: nothing",
    )
    reason: str = Field("", max_length=500, description="kept with the command for whoever asks")


class Command(BaseModel):
    """Something asked of a run, and what became of it."""

    model_config = ConfigDict(from_attributes=True)

    command_id: str
    run_id: str
    number: int = Field(description="the order of all commands of a run")
    kind: str
    args: Json[dict[str, Any]] = Field(validation_alias="args_json")
    reason: str
    actor: str
    state: str = Field(
        description="pending, received, applying; then applied, rejected, failed or expired"
    )
    created_at: float
    received_at: float | None
    settled_at: float | None
    branch: str | None
    effective_step: int | None = Field(description="the first step under it")
    before: Json[dict[str, Any]] | None = Field(validation_alias="before_json")
    after: Json[dict[str, Any]] | None = Field(validation_alias="after_json")
    error: str | None


class CommandQuery(PageQuery):
    """Which commands of a run."""

    state: str | None = Field(None, description="only those in this state")


_COMMANDS = Order(tables.Command.number, newest_first=True)


@router.post("/runs/{run}/commands", status_code=201, responses=problems(404, 409))
def post_command(engine: Database, caller: Operator, run: RunKey, asked: AskedCommand) -> Command:
    """Ask something of a run; it holds from the next step boundary after `received`."""
    command = _parse(asked)
    with write(engine) as session:
        run_id = find_run(session, run).run_id
        try:
            stored = submit(session, run_id, command, actor=actor_of(caller), reason=asked.reason)
        except RunEnded as ended:
            raise Problem(409, "The run has ended", str(ended)) from ended
        except CommandRefused as refused:
            raise invalid(f"args.{refused.field}", refused.detail) from refused
    return _after_reception(engine, stored.command_id)


@router.get("/runs/{run}/commands", responses=problems(404))
def list_commands(
    engine: Database, run: RunKey, asked: Annotated[CommandQuery, Query()]
) -> Page[Command]:
    """A run's commands, newest first."""
    with read(engine) as session:
        run_id = find_run(session, run).run_id
        query = select(tables.Command).where(tables.Command.run_id == run_id)
        if asked.state is not None:
            query = query.where(tables.Command.state == asked.state)
        return _COMMANDS.page(session, query, asked, Command.model_validate)


@router.get("/commands/{command_id}", responses=problems(404))
def get_command(engine: Database, command_id: str) -> Command:
    """One command."""
    with read(engine) as session:
        row = session.get(tables.Command, command_id)
        if row is None:
            raise none_found("command", command_id)
        return Command.model_validate(row)


def _parse(asked: AskedCommand) -> AnyCommand:
    if "kind" in asked.args:
        raise invalid("args.kind", "stands beside args, not inside")
    try:
        return parse(asked.kind, asked.args)
    except ValidationError as error:
        errors = [_named(problem["loc"], problem["msg"], asked.kind) for problem in error.errors()]
        detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise Problem(422, "Invalid command", detail, errors=errors) from error


def _named(location: tuple[int | str, ...], message: str, kind: str) -> FieldError:
    """The field as the caller wrote it: the union puts the kind before it, or nothing at all."""
    path = [str(part) for part in location]
    if not path:
        return FieldError(field="kind", message=message)
    field = ".".join(["args", *(path[1:] if path[0] == kind else path)])
    return FieldError(field=field, message=message.removeprefix("Value error, "))


def _after_reception(engine: Engine, command_id: str) -> Command:
    """The command once the trainer has it, or as it is after RECEPTION_WAIT_S."""
    deadline = time.monotonic() + RECEPTION_WAIT_S
    while True:
        command = get_command(engine, command_id)
        if command.state != "pending" or time.monotonic() >= deadline:
            return command
        time.sleep(RECEPTION_LOOK_S)
