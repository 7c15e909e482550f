"""Checkpoints and evaluations over HTTP: what a run can go back to, and how good it was there."""

import time
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, Json
from sqlalchemy import select

from control_api.audit import record
from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Database, Operator, reading_router
from control_api.runs import RunKey, find_run
from ingest.database import read, write
from ingest.ids import content_id
from ingest.openapi import problems
from trainer import tables
from trainer.commands.kinds import Label

router = reading_router("checkpoints")


class Checkpoint(BaseModel):
    """A verified, restorable state of a run."""

    model_config = ConfigDict(from_attributes=True)

    checkpoint_id: str
    run_id: str
    branch: str
    step: int
    lr: float = Field(description="in force there, of the first parameter group")
    name: str
    note: str
    path: str = Field(description="relative to the runs folder")
    digest: str = Field(description="blake3 of the manifest")
    num_bytes: int
    is_kept: bool = Field(description="else it goes when newer ones of its branch have come")
    created_at: float


class Evaluation(BaseModel):
    """One suite judged on one checkpoint."""

    model_config = ConfigDict(from_attributes=True)

    evaluation_id: str
    run_id: str
    checkpoint_id: str
    suite: str
    command_id: str | None
    state: str = Field(description="waiting, leased, done or failed")
    attempts: int
    result: Json[dict[str, Any]] | None = Field(validation_alias="result_json")
    error: str | None
    created_at: float
    finished_at: float | None


class AskedEvaluation(BaseModel):
    """What a checkpoint is to be judged on."""

    model_config = ConfigDict(extra="forbid")

    suite: Label = Field(examples=["fresh", "old_skills"])


_CHECKPOINTS = Order(
    tables.Checkpoint.created_at, tables.Checkpoint.checkpoint_id, newest_first=True
)
_EVALUATIONS = Order(
    tables.Evaluation.created_at, tables.Evaluation.evaluation_id, newest_first=True
)


@router.get("/runs/{run}/checkpoints", responses=problems(404))
def list_checkpoints(
    engine: Database, run: RunKey, asked: Annotated[PageQuery, Query()]
) -> Page[Checkpoint]:
    """A run's checkpoints, newest first."""
    with read(engine) as session:
        run_id = find_run(session, run).run_id
        query = select(tables.Checkpoint).where(
            tables.Checkpoint.run_id == run_id, tables.Checkpoint.removed_at.is_(None)
        )
        return _CHECKPOINTS.page(session, query, asked, Checkpoint.model_validate)


@router.get("/runs/{run}/evaluations", responses=problems(404))
def list_evaluations(
    engine: Database, run: RunKey, asked: Annotated[PageQuery, Query()]
) -> Page[Evaluation]:
    """What held-out sessions said of a run's checkpoints, newest first."""
    with read(engine) as session:
        run_id = find_run(session, run).run_id
        query = select(tables.Evaluation).where(tables.Evaluation.run_id == run_id)
        return _EVALUATIONS.page(session, query, asked, Evaluation.model_validate)


@router.post("/checkpoints/{checkpoint_id}/evaluations", status_code=201, responses=problems(404))
def ask_evaluation(
    engine: Database, caller: Operator, checkpoint_id: str, asked: AskedEvaluation
) -> Evaluation:
    """Let held-out sessions judge a checkpoint, whether its run lives or not.

    Asked again, it answers with what is there already; one that failed is tried again.
    """
    evaluation_id = content_id(checkpoint_id, asked.suite)
    with write(engine) as session:
        checkpoint = session.get(tables.Checkpoint, checkpoint_id, with_for_update=True)
        if checkpoint is None or checkpoint.removed_at is not None:
            raise none_found("checkpoint", checkpoint_id)
        row = session.get(tables.Evaluation, evaluation_id)
        if row is None or row.state == "failed":
            row = session.merge(
                tables.Evaluation(
                    evaluation_id=evaluation_id,
                    run_id=checkpoint.run_id,
                    checkpoint_id=checkpoint_id,
                    suite=asked.suite,
                    command_id=None,
                    state="waiting",
                    lease_expires_at=None,
                    attempts=0,
                    result_json=None,
                    error=None,
                    created_at=time.time(),
                    finished_at=None,
                )
            )
            record(session, caller, "evaluation.ask", evaluation_id, suite=asked.suite)
        return Evaluation.model_validate(row)


@router.get("/evaluations/{evaluation_id}", responses=problems(404))
def get_evaluation(engine: Database, evaluation_id: str) -> Evaluation:
    """One evaluation."""
    with read(engine) as session:
        row = session.get(tables.Evaluation, evaluation_id)
        if row is None:
            raise none_found("evaluation", evaluation_id)
        return Evaluation.model_validate(row)
