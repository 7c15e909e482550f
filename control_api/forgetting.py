"""Forgetting over HTTP: a user or a session is taken out of everything, with an admin's key.

In: whom. Out: what went, what nobody here can reach and how long it stays there, and the
checkpoints that were trained on it. Guaranteed: the answer comes when it is done; a request that
was cut off is made again, and goes on. The audit log names the tombstone, not the person.
"""

from dataclasses import asdict
from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, select

from control_api.audit import record
from control_api.paging import Order, Page, PageQuery
from control_api.request import Administrator, Database, admin_router
from ingest import tables
from ingest.database import read, write
from ingest.forgetting.forget import Forgetting
from ingest.forgetting.tombstones import Identity, Noun
from ingest.keys import Caller
from ingest.log import LogUnavailable
from ingest.problems import unavailable
from ingest.settings import Settings
from trainer.checkpoints.trained_on import trained_on

router = admin_router("forgetting")

BACKUPS = (
    "backups: make a new one into the same folder, which drops what is gone here; an older copy is "
    "restored with --tombstones"
)
CACHES = "caches: other machines' copies of shards go when newer ones need their room"
RUNS = "runs: what they learned is in these checkpoints; roll back to one before, or remove them"

Source = Annotated[str, Query(max_length=128, description="whose user or session it is")]
UserId = Annotated[str, Path(max_length=128, description="as its events have it")]
SessionId = Annotated[str, Path(max_length=128, description="as its events have it")]


class TrainedOn(BaseModel):
    """A checkpoint whose line drew a sample that is forgotten."""

    run: str
    branch: str
    step: int
    name: str
    checkpoint_id: str
    removed_at: float | None = Field(description="null: its files are there")


class Forgotten(BaseModel):
    """What went with this request, and what remains."""

    tombstone_id: str = Field(description="a hash: what is kept in place of the name")
    forgotten_at: float = Field(description="of a user, what comes later is a new visit's")
    num_sessions: int
    num_events: int
    num_samples: int
    num_dead_letters: int
    num_shards: int = Field(description="removed, or written anew without them")
    log_until: float | None = Field(
        description="until when the brokers keep what they have; null: it is gone from the log"
    )
    remains: list[str] = Field(description="what this server can't reach, and what ends it")
    checkpoints: list[TrainedOn] = Field(description="those that were trained on them")


class Tombstone(BaseModel):
    """Somebody who is forgotten, by a hash."""

    model_config = ConfigDict(from_attributes=True)

    tombstone_id: str
    of_user: str | None = Field(description="of a session: the tombstone of its user")
    forgotten_at: float
    finished_at: float | None = Field(description="null: ask again, so that it goes on")


_TOMBSTONES = Order(tables.Tombstone.forgotten_at, tables.Tombstone.tombstone_id, newest_first=True)


@router.get("/tombstones")
def list_tombstones(engine: Database, asked: Annotated[PageQuery, Query()]) -> Page[Tombstone]:
    """Who is forgotten, newest first."""
    with read(engine) as session:
        query = select(tables.Tombstone)
        return _TOMBSTONES.page(session, query, asked, Tombstone.model_validate)


@router.delete("/users/{user_id}")
def forget_user(
    request: Request, engine: Database, caller: Administrator, user_id: UserId, source: Source
) -> Forgotten:
    """Forget all that a user of a source has sent until now."""
    return _forget(request, engine, caller, Identity("user", source, user_id))


@router.delete("/sessions/{session_id}")
def forget_session(
    request: Request, engine: Database, caller: Administrator, session_id: SessionId, source: Source
) -> Forgotten:
    """Forget a session of a source, for good."""
    return _forget(request, engine, caller, Identity("session", source, session_id))


def _forget(request: Request, engine: Engine, caller: Caller, who: Identity) -> Forgotten:
    _write_down(engine, caller, who.noun, who.tombstone_id)
    state = request.app.state
    settings: Settings = state.settings
    try:
        outcome = Forgetting(engine, state.store, state.event_log).forget(who)
    except (LogUnavailable, OSError) as error:
        raise unavailable(f"not all is forgotten yet ({error}); ask again") from error
    with read(engine) as session:
        checkpoints = [
            TrainedOn(
                run=run.name,
                branch=each.branch,
                step=each.step,
                name=each.name,
                checkpoint_id=each.checkpoint_id,
                removed_at=each.removed_at,
            )
            for run, each in trained_on(session, who.tombstone_id)
        ]
    remains = [*outcome.remains, BACKUPS]
    if settings.shards is not None:
        remains.append(CACHES)
    if checkpoints:
        remains.append(RUNS)
    return Forgotten.model_validate(
        {**asdict(outcome), "remains": remains, "checkpoints": checkpoints}
    )


def _write_down(engine: Engine, caller: Caller, noun: Noun, tombstone_id: str) -> None:
    """Before anything goes: who asked is known even if the rest takes several requests."""
    with write(engine) as session:
        record(session, caller, f"{noun}.forget", tombstone_id)
