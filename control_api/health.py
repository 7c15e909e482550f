"""Is it alive, can it serve, who is it: for supervisors, load balancers and shippers.

`/livez` says that the process answers; `/readyz` looks at all that an answer needs and says 503
with what is missing. Neither needs a key, and neither tells more than that.
"""

from functools import cache
from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from control_api.request import Database, actor_of
from ingest.access import open_to_all, require
from ingest.database import alembic_config, read
from ingest.keys import Caller, Limits, Role
from ingest.log import EventLog, LogUnavailable
from ingest.openapi import problems

VERSION = version("stovetop")

router = APIRouter(tags=["health"])

Anyone = Annotated[Caller, Depends(require())]


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """What an answer needs, each `ok` or what is wrong."""

    status: Literal["ready", "unready"]
    checks: dict[str, str] = Field(examples=[{"database": "ok", "log": "ok", "schema": "ok"}])


class Instance(BaseModel):
    """This installation, and who asks."""

    instance_id: str = Field(description="a shipper's cursor belongs to it")
    version: str
    role: Role = Field(description="of the key that asks")
    source: str = Field(description="of the key that asks")
    actor: str = Field(description="who asks, as its commands are stored")
    limits: Limits = Field(description="what the commands of the key that asks are held to")


@router.get("/livez", dependencies=[Depends(open_to_all)])
def live() -> Live:
    """Whether the process answers."""
    return Live()


@router.get(
    "/readyz",
    dependencies=[Depends(open_to_all)],
    responses={503: {"model": Ready, "description": "What is missing"}},
)
def ready(request: Request, response: Response, engine: Database) -> Ready:
    """Whether requests can be served: database, its schema, event log."""
    checks = {**check_database(engine), "log": _log(request.app.state.event_log)}
    is_ready = set(checks.values()) == {"ok"}
    response.status_code = 200 if is_ready else 503
    return Ready(status="ready" if is_ready else "unready", checks=checks)


@router.get("/v1/instance", responses=problems(400, 401, 403, 429, 503))
def get_instance(request: Request, caller: Anyone) -> Instance:
    """This installation's id and version, and what the caller's key is; for a key of any role."""
    return Instance(
        instance_id=request.app.state.instance_id,
        version=VERSION,
        role=caller.role,
        source=caller.source,
        actor=actor_of(caller),
        limits=caller.limits,
    )


def check_database(engine: Engine) -> dict[str, str]:
    """The database and its schema, each `ok` or what is wrong."""
    try:
        with read(engine) as session:
            schema = session.scalar(text("SELECT version_num FROM alembic_version"))
    except SQLAlchemyError:
        return {"database": "does not answer", "schema": "unknown"}
    newest = _newest_schema(str(engine.url))
    if schema == newest:
        return {"database": "ok", "schema": "ok"}
    return {"database": "ok", "schema": f"{schema}, not {newest}; run `stovetop db upgrade`"}


@cache
def _newest_schema(url: str) -> str | None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  (0.4 s that no start has to pay)

    return ScriptDirectory.from_config(alembic_config(url)).get_current_head()


def _log(event_log: EventLog) -> str:
    try:
        event_log.num_waiting({0: 0})
    except LogUnavailable as error:
        return str(error)
    return "ok"
