"""A run's health over HTTP: the signals that started and ended, each with what to do next."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from control_api.paging import Order, Page, PageQuery
from control_api.request import Database, reading_router
from control_api.runs import RunKey, find_run
from ingest.database import read
from ingest.openapi import problems
from trainer.health.policy import SignalName
from trainer.tables import HealthSignal

router = reading_router("health")


class Signal(BaseModel):
    """A signal that started or ended with a step of a branch."""

    model_config = ConfigDict(from_attributes=True)

    branch: str
    step: int
    name: str = Field(
        description="not_finite, divergence, loss_spike, grad_norm_spike, update_ratio, plateau, "
        "throughput_drop or starvation"
    )
    state: str = Field(description="started or ended")
    value: float | None = Field(description="in the signal's own unit; null: not a finite number")
    threshold: float = Field(description="above which it is on")
    message: str = Field(description="what has happened, and what to do next")
    command_id: str | None = Field(description="a policy's last answer to it")
    at: float


class SignalQuery(PageQuery):
    """Which signals of a run."""

    name: SignalName | None = Field(None, description="default: all")
    branch: str | None = Field(None, description="default: every branch")
    after_step: int = Field(-1, ge=-1, lt=2**63, description="only of later steps")


_SIGNALS = Order(
    HealthSignal.at, HealthSignal.branch, HealthSignal.step, HealthSignal.name, newest_first=True
)


@router.get("/runs/{run}/health", responses=problems(404))
def list_signals(
    engine: Database, run: RunKey, asked: Annotated[SignalQuery, Query()]
) -> Page[Signal]:
    """The signals of a run's health that started and ended, newest first."""
    with read(engine) as session:
        run_id = find_run(session, run).run_id
        query = select(HealthSignal).where(
            HealthSignal.run_id == run_id, HealthSignal.step > asked.after_step
        )
        if asked.name is not None:
            query = query.where(HealthSignal.name == asked.name)
        if asked.branch is not None:
            query = query.where(HealthSignal.branch == asked.branch)
        return _SIGNALS.page(session, query, asked, Signal.model_validate)
