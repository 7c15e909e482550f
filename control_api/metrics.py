"""Metrics and steps over HTTP: what a run's curves are drawn from, and what each step really took.

In: names, a branch, a step to go on from, a number of points. Out: series that hide no spike.
Guaranteed: where there are more steps than `max_points`, each point is a bucket of steps with
its least, greatest and last value. Decision: buckets are powers of two wide and start at multiples
of their width, so a growing curve's old points stay where they are until the width doubles.
"""

from collections import defaultdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import Session

from control_api.paging import Order, Page, PageQuery
from control_api.request import Database, reading_router
from control_api.runs import RunKey, find_run
from ingest.database import read
from ingest.openapi import problems
from trainer.mix.cohorts import unpack_numbers
from trainer.tables import Metric
from trainer.tables import Step as StepRow

router = reading_router("metrics")


class Point(BaseModel):
    """A bucket of steps, or one step: `step` is the last of them."""

    step: int
    min: float | None = Field(description="null where no value in it is a number")
    max: float | None
    last: float | None
    count: int = Field(description="how many steps")


class Series(BaseModel):
    """One metric on one branch, in the order of its steps."""

    name: str
    branch: str
    points: list[Point]


class Metrics(BaseModel):
    """The series that were asked for."""

    run_id: str
    bucket_steps: int = Field(description="steps a point; 1: every step is there")
    series: list[Series]


class MetricsQuery(BaseModel):
    """Which metrics of a run, and how many points of each."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="names, comma between them; default: all")
    branch: str | None = Field(None, description="default: every branch")
    after_step: int = Field(-1, ge=-1, lt=2**63, description="only later steps")
    max_points: int = Field(1000, ge=1, le=10_000, description="most points a series")


class Step(BaseModel):
    """One optimizer step as it happened."""

    branch: str
    step: int
    started_at: float = Field(description="wall clock, before its first micro-batch was taken")
    lr: float = Field(description="read from the optimizer inside the step")
    samples: list[int] = Field(description="sample numbers in draw order")

    @classmethod
    def of(cls, row: StepRow) -> "Step":
        """The row, its sample numbers unpacked."""
        return cls(
            branch=row.branch,
            step=row.step,
            started_at=row.started_at,
            lr=row.lr,
            samples=unpack_numbers(row.samples).tolist(),
        )


class StepsQuery(PageQuery):
    """Which steps of a run."""

    branch: str | None = Field(None, description="default: every branch")
    after_step: int = Field(-1, ge=-1, lt=2**63, description="only later steps")


_STEPS = Order(StepRow.step, StepRow.branch)


@router.get("/runs/{run}/metrics", responses=problems(404))
def get_metrics(engine: Database, run: RunKey, asked: Annotated[MetricsQuery, Query()]) -> Metrics:
    """A run's curves, at most `max_points` points each."""
    with read(engine) as session:
        run_id = find_run(session, run).run_id
        width, series = _series(session, run_id, asked)
        return Metrics(run_id=run_id, bucket_steps=width, series=series)


@router.get("/runs/{run}/steps", responses=problems(404))
def list_steps(engine: Database, run: RunKey, asked: Annotated[StepsQuery, Query()]) -> Page[Step]:
    """What each step of a run really took: its lr and its samples, in the order of the steps."""
    with read(engine) as session:
        run_id = find_run(session, run).run_id
        query = select(StepRow).where(StepRow.run_id == run_id, StepRow.step > asked.after_step)
        if asked.branch is not None:
            query = query.where(StepRow.branch == asked.branch)
        return _STEPS.page(session, query, asked, Step.of)


def _series(session: Session, run_id: str, asked: MetricsQuery) -> tuple[int, list[Series]]:
    """The width of all buckets, and the series by branch and name."""
    wanted = and_(Metric.run_id == run_id, Metric.step > asked.after_step)
    if asked.name is not None:
        wanted &= Metric.name.in_(asked.name.split(","))
    if asked.branch is not None:
        wanted &= Metric.branch == asked.branch
    first, last = session.execute(
        select(func.min(Metric.step), func.max(Metric.step)).where(wanted)
    ).one()
    if first is None:
        return 1, []
    width = bucket_width(first, last, asked.max_points)
    points: defaultdict[tuple[str, str], list[Point]] = defaultdict(list)
    for branch, name, step, least, greatest, value, count in session.execute(
        _buckets(wanted, width)
    ):
        points[branch, name].append(
            Point(step=step, min=least, max=greatest, last=value, count=count)
        )
    return width, [Series(branch=key[0], name=key[1], points=of) for key, of in points.items()]


def bucket_width(first: int, last: int, max_points: int) -> int:
    """The least power of two that covers the steps `first` to `last` in `max_points` buckets."""
    width = 1
    while last // width - first // width + 1 > max_points:
        width *= 2
    return width


def _buckets(wanted: ColumnElement[bool], width: int) -> Select[*tuple[Any, ...]]:
    bucket = (
        select(
            Metric.branch,
            Metric.name,
            func.max(Metric.step).label("step"),
            func.min(Metric.value).label("least"),
            func.max(Metric.value).label("greatest"),
            func.count().label("num_steps"),
        )
        .where(wanted)
        .group_by(Metric.branch, Metric.name, Metric.step // width)
        .subquery()
        .c
    )
    is_last = and_(
        Metric.branch == bucket.branch, Metric.name == bucket.name, Metric.step == bucket.step
    )
    return (
        select(
            bucket.branch,
            bucket.name,
            bucket.step,
            bucket.least,
            bucket.greatest,
            Metric.value,
            bucket.num_steps,
        )
        .where(wanted, is_last)
        .order_by(bucket.branch, bucket.name, bucket.step)
    )
