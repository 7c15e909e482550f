"""What an endpoint takes from its request: the database, and who calls.

Every router of nouns is opened with `reading_router`, so that no route of it can be without a role.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import Engine

from ingest.access import require
from ingest.keys import UNLIMITED, Caller
from ingest.openapi import problems
from ingest.problems import FieldError, Problem


def _engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


Database = Annotated[Engine, Depends(_engine_of)]
Operator = Annotated[Caller, Depends(require("operator"))]


def _curator(caller: Operator) -> Caller:
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
    return APIRouter(
        prefix="/v1",
        tags=[noun],
        dependencies=[Depends(require("viewer"))],
        responses=problems(401, 403, 422, 503),
    )


def actor_of(caller: Caller) -> str:
    """Who asked, as stored with a command, slice or mix: the key's source and its public id."""
    return f"{caller.source}/{caller.key_id}"


def invalid(field: str, message: str) -> Problem:
    """The 422 for one field that is well-formed but can't be taken."""
    return Problem(
        422,
        "Invalid request",
        f"{field}: {message}",
        errors=[FieldError(field=field, message=message)],
    )
