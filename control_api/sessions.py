"""Sessions and episodes over HTTP: who used the model when, and what replay made of it."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import select

from control_api.paging import Order, Page, PageQuery
from control_api.request import Database, reading_router
from ingest import tables
from ingest.database import read

router = reading_router("sessions")

Words = Annotated[list[str], BeforeValidator(str.split)]
Split = Literal["train", "eval"]


class Session(BaseModel):
    """One visit."""

    model_config = ConfigDict(from_attributes=True)

    session_key: str
    source: str
    session_id: str
    user_id: str | None
    split: str = Field(description="train or eval, for ever")
    first_timestamp: float
    last_timestamp: float
    received_at: float
    num_events: int


class Episode(BaseModel):
    """A session's part between resets, the unit of replay."""

    model_config = ConfigDict(from_attributes=True)

    episode_id: str
    session_key: str
    ordinal: int
    version: int
    num_actions: int
    num_unrecorded: int
    num_auto: int
    num_stuck_keys: int
    first_timestamp: float
    last_timestamp: float
    state: str = Field(description="open, waiting, leased, replayed, parked, superseded, placed")
    attempts: int
    error: str | None
    environment: str | None
    tasks: Words
    replayed_version: int | None
    replayed_at: float | None


class SessionQuery(PageQuery):
    """Which sessions."""

    source: str | None = None
    split: Split | None = None


class EpisodeQuery(PageQuery):
    """Which episodes."""

    session_key: str | None = None
    state: str | None = None


_SESSIONS = Order(tables.SessionRow.received_at, tables.SessionRow.session_key, newest_first=True)
_EPISODES = Order(tables.Episode.last_timestamp, tables.Episode.episode_id, newest_first=True)


@router.get("/sessions")
def list_sessions(engine: Database, asked: Annotated[SessionQuery, Query()]) -> Page[Session]:
    """Sessions, the one that was heard of last first."""
    query = select(tables.SessionRow)
    if asked.source is not None:
        query = query.where(tables.SessionRow.source == asked.source)
    if asked.split is not None:
        query = query.where(tables.SessionRow.split == asked.split)
    with read(engine) as session:
        return _SESSIONS.page(session, query, asked, Session.model_validate)


@router.get("/episodes")
def list_episodes(engine: Database, asked: Annotated[EpisodeQuery, Query()]) -> Page[Episode]:
    """Episodes, newest first."""
    query = select(tables.Episode)
    if asked.session_key is not None:
        query = query.where(tables.Episode.session_key == asked.session_key)
    if asked.state is not None:
        query = query.where(tables.Episode.state == asked.state)
    with read(engine) as session:
        return _EPISODES.page(session, query, asked, Episode.model_validate)
