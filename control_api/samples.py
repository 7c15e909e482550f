"""Samples over HTTP: what the buffer holds, in the filter language, and each one's frame."""

import time
from typing import Annotated, NamedTuple

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, select

from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Database, invalid, reading_router
from control_api.sessions import Words
from ingest import tables
from ingest.buffer import FRAME
from ingest.database import read
from ingest.filters import FilterError, parse
from ingest.openapi import problems
from ingest.problems import Problem, unavailable
from ingest.shard_store import ShardStore
from ingest.shards import CorruptShardError, read_span, split_members

router = reading_router("samples")

Number = Annotated[int, Path(ge=1, lt=2**63, description="a sample's number")]
PNG = "image/png"


class Sample(BaseModel):
    """One frame with the action before it, or one document."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    episode_id: str
    episode_version: int
    position: int
    event_number: int
    session_key: str
    source: str
    user_id: str | None
    split: str
    timestamp: float
    environment: str
    tasks: Words
    changes: Words
    ticks_since_change: int | None
    is_auto: bool
    added_revision: int
    retired_revision: int | None


class SampleQuery(PageQuery):
    """Which samples of the buffer."""

    filter: str = Field(
        "",
        max_length=2000,
        description="as in slices: `task:open_browser age<7d -source:play`; ages count from now",
    )


class _Place(NamedTuple):
    """Where a sample's frame lies."""

    path: str
    offset: int
    length: int


_SAMPLES = Order(tables.Sample.number, newest_first=True)


@router.get("/samples")
def list_samples(engine: Database, asked: Annotated[SampleQuery, Query()]) -> Page[Sample]:
    """The buffer's samples that match, newest first; retired ones are not among them."""
    try:
        matches = parse(asked.filter).where(time.time())
    except FilterError as error:
        raise invalid("filter", str(error)) from error
    query = select(tables.Sample).where(tables.Sample.retired_revision.is_(None), matches)
    with read(engine) as session:
        return _SAMPLES.page(session, query, asked, Sample.model_validate)


@router.get("/samples/{number}", responses=problems(404))
def get_sample(engine: Database, number: Number) -> Sample:
    """One sample, retired or not."""
    with read(engine) as session:
        row = session.get(tables.Sample, number)
        if row is None:
            raise none_found("sample", number)
        return Sample.model_validate(row)


@router.get(
    "/samples/{number}/frame.png",
    response_class=Response,
    responses={200: {"content": {PNG: {}}, "description": "The frame"}, **problems(404)},
)
def get_frame(request: Request, engine: Database, number: Number) -> Response:
    """The screen one tick after the sample's action, as it was replayed."""
    store: ShardStore = request.app.state.store
    place = _place(engine, number)
    try:
        png = _read_frame(store, place)
    except OSError as error:
        raise unavailable(f"{error}; ask again") from error
    if png is None:
        raise Problem(
            404, "Not found", f"the frame of sample {number} is lost: `stovetop verify` says more"
        )
    return Response(png, media_type=PNG, headers={"Cache-Control": "private, max-age=300"})


def _read_frame(store: ShardStore, place: _Place) -> bytes | None:
    """A frame's PNG; None where it is lost. Raises OSError where the store is away."""
    try:
        members = split_members(read_span(store.local(place.path), place.offset, place.length))
    except (FileNotFoundError, CorruptShardError):
        store.assert_reachable()
        return None
    return members.get("png")


def _place(engine: Engine, number: int) -> _Place:
    query = (
        select(tables.Shard.path, tables.Placement.offset, tables.Placement.length)
        .join(tables.Placement, tables.Placement.shard_id == tables.Shard.shard_id)
        .where(tables.Placement.sample_number == number, tables.Placement.representation == FRAME)
    )
    with read(engine) as session:
        place = session.execute(query).first()
    if place is None:
        raise none_found("frame of sample", number)
    return _Place(*place)
