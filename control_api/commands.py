"""Commands over HTTP: something is asked of a run, and what became of it.

In: `{kind, args, reason}`. Out: 201 with the stored command; 200 where the `Idempotency-Key` has
come with the same body before. Guaranteed: what is stored is valid; `received` in the answer means
that the trainer has it and obeys from the next step boundary on; `pending` that it will take it
when it can, and that it may be cancelled until then; `proposed` that the key needs somebody else's
approval first (`control_api.proposals`). Decision: the answer waits at most 200 ms.
"""

import time
from typing import Annotated, Any

from fastapi import Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from control_api.asking import Asking, ask
from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Database, Operator, actor_of, invalid, reading_router
from control_api.runs import RunKey, find_run
from ingest.database import read, write
from ingest.keys import UNLIMITED, Caller
from ingest.openapi import problems
from ingest.problems import FieldError, Problem
from trainer import tables
from trainer.commands.kinds import AnyCommand, parse
from trainer.commands.queue import NotCancellable, cancel

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
                {
                    "kind": "set_lr",
                    "args": {"schedule": {"shape": "cosine", "to": 1e-5, "steps": 500}},
                },
                {"kind": "set_optimizer", "args": {"weight_decay": 0.1, "group": "decay"}},
                {"kind": "set_mix", "args": {"name": "half"}},
                {"kind": "set_mix", "args": {"weights": {"everyday": 0.7, "fresh": 0.3}}},
                {"kind": "freeze", "args": {"modules": ["encoder"]}},
                {"kind": "rollback", "args": {"checkpoint": "before", "hold_data": True}},
            ]
        },
    )

    kind: str = Field(
        description="set_lr, set_optimizer, set_mix, pause, resume, stop, save, rollback, "
        "evaluate, freeze, unfreeze, reset_parameters or undo"
    )
    args: dict[str, Any] = Field(
        {},
        description="set_lr: value, factor or schedule {shape: constant, linear or cosine, to, "
        "steps, warm_up_steps?}, group?; set_optimizer: betas?, eps?, weight_decay?, momentum?, "
        "max_grad_norm?, group?; set_mix: name, version?, or weights by slice; save: name?, note?, "
        "keep?; rollback: checkpoint, branch?, set_lr?, set_mix?, hold_data?; evaluate: suite; "
        "freeze, unfreeze and reset_parameters: modules; undo: command; pause, resume and stop: "
        "nothing",
    )
    reason: str = Field("", max_length=500, description="kept with the command for whoever asks")


class Command(BaseModel):
    """Something asked of a run, and what became of it."""

    model_config = ConfigDict(from_attributes=True)

    command_id: str
    run_id: str
    number: int = Field(
        description="the order of all commands of a run; a proposal gets its own once approved"
    )
    kind: str
    args: Json[dict[str, Any]] = Field(validation_alias="args_json")
    reason: str
    actor: str
    state: str = Field(
        description="proposed, pending, received, applying; then applied, rejected, failed, "
        "expired or cancelled"
    )
    created_at: float
    received_at: float | None
    settled_at: float | None
    branch: str | None
    effective_step: int | None = Field(description="the first step under it")
    before: Json[dict[str, Any]] | None = Field(validation_alias="before_json")
    after: Json[dict[str, Any]] | None = Field(validation_alias="after_json")
    error: str | None
    decided_by: str | None = Field(description="who approved or refused it, if it was proposed")
    decided_at: float | None
    decision_reason: str | None


class AskedUndo(BaseModel):
    """Why a command is undone."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=400, description="kept with the undo for whoever asks")


class CommandQuery(PageQuery):
    """Which commands of a run."""

    state: str | None = Field(None, description="only those in this state")
    actor: str | None = Field(None, description="only those that this one has asked")


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,200}$",
        description="your own; the same one with the same body makes no second command",
    ),
]

_ASKED_BEFORE: dict[int | str, dict[str, Any]] = {
    200: {"model": Command, "description": "The command that this key made before"}
}
_COMMANDS = Order(tables.Command.number, newest_first=True)


@router.post(
    "/runs/{run}/commands",
    status_code=201,
    responses=_ASKED_BEFORE | problems(404, 409),
)
def post_command(
    engine: Database,
    caller: Operator,
    run: RunKey,
    asked: AskedCommand,
    *,
    response: Response,
    key: IdempotencyKey = None,
) -> Command:
    """Ask something of a run; it holds from the next step boundary after `received`."""
    command = _parse(asked)
    with read(engine) as session:
        run_id = find_run(session, run).run_id
    return _ask(engine, Asking(run_id, command, caller, asked.reason, key), response)


@router.post(
    "/commands/{command_id}/undo",
    status_code=201,
    responses=_ASKED_BEFORE | problems(404, 409),
)
def undo_command(
    engine: Database,
    caller: Operator,
    command_id: str,
    *,
    response: Response,
    asked: AskedUndo | None = None,
    key: IdempotencyKey = None,
) -> Command:
    """Restore what the command found, while it is the latest of its kind on the run's branch."""
    run_id = get_command(engine, command_id).run_id
    command = parse("undo", {"command": command_id})
    reason = "" if asked is None else asked.reason
    return _ask(engine, Asking(run_id, command, caller, reason, key), response)


@router.delete("/commands/{command_id}", responses=problems(404, 409))
@router.post("/commands/{command_id}/cancel", responses=problems(404, 409))
def cancel_command(engine: Database, caller: Operator, command_id: str) -> Command:
    """Let nobody take a command that is still pending or proposed.

    A limited key may take back its own.
    """
    with write(engine) as session:
        try:
            _check_is_own(session, caller, command_id)
            row = cancel(session, command_id, actor=actor_of(caller))
        except NotCancellable as error:
            raise Problem(409, "Not cancellable", str(error)) from error
        except LookupError as error:
            raise none_found("command", command_id) from error
        return Command.model_validate(row)


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
        if asked.actor is not None:
            query = query.where(tables.Command.actor == asked.actor)
        return _COMMANDS.page(session, query, asked, Command.model_validate)


@router.get("/commands/{command_id}", responses=problems(404))
def get_command(engine: Database, command_id: str) -> Command:
    """One command."""
    with read(engine) as session:
        row = session.get(tables.Command, command_id)
        if row is None:
            raise none_found("command", command_id)
        return Command.model_validate(row)


def _ask(engine: Engine, asking: Asking, response: Response) -> Command:
    command_id, is_new = ask(engine, asking)
    response.status_code = 201 if is_new else 200
    return after_reception(engine, command_id)


def _check_is_own(session: Session, caller: Caller, command_id: str) -> None:
    row = session.get(tables.Command, command_id)
    if row is not None and caller.limits != UNLIMITED and row.actor != actor_of(caller):
        detail = f"a key with limits cancels its own commands; {row.actor} has asked this one"
        raise Problem(403, "Forbidden", detail)


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


def after_reception(engine: Engine, command_id: str) -> Command:
    """The command once the trainer has it, or as it is after RECEPTION_WAIT_S."""
    deadline = time.monotonic() + RECEPTION_WAIT_S
    while True:
        command = get_command(engine, command_id)
        if command.state != "pending" or time.monotonic() >= deadline:
            return command
        time.sleep(RECEPTION_LOOK_S)
