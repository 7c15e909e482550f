"""Runs over HTTP: where each stands, and the branches that its rollbacks made."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Database, reading_router
from ingest.database import read
from ingest.openapi import problems
from trainer import tables

router = reading_router("runs")

RunKey = Annotated[str, Path(description="a run's id or name")]


class Run(BaseModel):
    """One training job's life over restarts and branches."""

    model_config = ConfigDict(from_attributes=True)

    run_id: str
    name: str
    recipe: str = Field(description="the model family")
    config: Json[dict[str, Any]] = Field(validation_alias="config_json")
    state: str = Field(
        description="starting, running, paused, stopping, stopped, finished, failed or lost"
    )
    branch: str
    step: int = Field(description="the last finished step of the branch")
    max_steps: int
    lr: float
    mix_name: str
    mix_version: int
    representation: str
    environment: str
    error: str | None
    signals: Annotated[list[str], BeforeValidator(str.split)] = Field(
        description="of its health, those that are on; see /v1/runs/{run}/health"
    )
    created_at: float
    updated_at: float


class Branch(BaseModel):
    """A run's line after a rollback; the first is `main`."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    parent: str | None
    from_step: int
    from_checkpoint: str | None
    created_at: float


_RUNS = Order(tables.Run.created_at, tables.Run.run_id, newest_first=True)
_BRANCHES = Order(tables.Branch.created_at, tables.Branch.name)


def find_run(session: Session, wanted: str) -> tables.Run:
    """A run by its id or name. Raises Problem 404."""
    named = or_(tables.Run.run_id == wanted, tables.Run.name == wanted)
    found = session.scalars(select(tables.Run).where(named)).all()
    if not found:
        raise none_found("run", wanted)
    return min(found, key=lambda run: run.run_id != wanted)


@router.get("/runs")
def list_runs(engine: Database, asked: Annotated[PageQuery, Query()]) -> Page[Run]:
    """All runs, newest first."""
    with read(engine) as session:
        return _RUNS.page(session, select(tables.Run), asked, Run.model_validate)


@router.get("/runs/{run}", responses=problems(404))
def get_run(engine: Database, run: RunKey) -> Run:
    """One run."""
    with read(engine) as session:
        return Run.model_validate(find_run(session, run))


@router.get("/runs/{run}/branches", responses=problems(404))
def list_branches(
    engine: Database, run: RunKey, asked: Annotated[PageQuery, Query()]
) -> Page[Branch]:
    """A run's branches, oldest first."""
    with read(engine) as session:
        run_id = find_run(session, run).run_id
        query = select(tables.Branch).where(tables.Branch.run_id == run_id)
        return _BRANCHES.page(session, query, asked, Branch.model_validate)
