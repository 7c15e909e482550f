"""What an endpoint takes from its request: the database, and who calls.

Every router of nouns is opened with `reading_router` or `admin_router`, so that no route of it can
be without a role. A change takes `Operator` or `Administrator`, which also count it.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import Engine

from ingest.access import rates_of, require
from ingest.keys import UNLIMITED, Caller, Role
from ingest.openapi import problems
from ingest.problems import FieldError, Problem


def _engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


Database = Annotated[Engine, Depends(_engine_of)]


async def _changing_operator(
    request: Request, caller: Annotated[Caller, Depends(require("operator"))]
) -> Caller:
    rates_of(request).take_change(caller.key_id)
    return caller


async def _changing_admin(
    request: Request, caller: Annotated[Caller, Depends(require("admin"))]
) -> Caller:
    rates_of(request).take_change(caller.key_id)
    return caller


Operator = Annotated[Caller, Depends(_changing_operator)]
Administrator = Annotated[Caller, Depends(_changing_admin)]


async def _curator(caller: Operator) -> Caller:
    if caller.limits != UNLIMITED:
        raise Problem(
            403,
            "Forbidden",
            "a key with limits changes no slice and no mix, for runs that draw from them would "
            "follow past its limits; ask a run for the command set_mix, or somebody with a key "
            "without limits",
        )
    return caller


Curator = Annotated[Caller, Depends(_curator)]


def reading_router(noun: str) -> APIRouter:
    """A router whose every route needs at least the role `viewer`."""
    return _router(noun, "viewer")


def admin_router(noun: str) -> APIRouter:
    """A router whose every route needs the role `admin`."""
    return _router(noun, "admin")


def actor_of(caller: Caller) -> str:
    """Who asked, as stored with a command, slice or mix: the key's source and its public id."""
    return f"{caller.source}/{caller.key_id}"


def _router(noun: str, role: Role) -> APIRouter:
    return APIRouter(
        prefix="/v1",
        tags=[noun],
        dependencies=[Depends(require(role))],
        responses=problems(400, 401, 403, 408, 413, 422, 429, 503),
    )


def invalid(field: str, message: str) -> Problem:
    """The 422 for one field that is well-formed but can't be taken."""
    return Problem(
        422,
        "Invalid request",
        f"{field}: {message}",
        errors=[FieldError(field=field, message=message)],
    )
