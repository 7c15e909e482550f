"""The line at a glance: how much is in each stage, and how much waits before the next.

In: the tables. Out: counts that add up at rest: every event in the log became a row, every episode
is replayed, every trainable sample has latents. Decision: counted on demand from indexes; the
slowest takes about 10 ms for 100,000 events, so a page may ask every second.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field
from sqlalchemy import Engine, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from control_api.request import Database, reading_router
from ingest.buffer import DOCUMENT, FRAME, latest_revision
from ingest.database import read
from ingest.documents import ENVIRONMENT
from ingest.log import EventLog, LogUnavailable
from ingest.tables import (
    DeadLetter,
    Episode,
    EventRow,
    LogOffset,
    Placement,
    Sample,
    SessionRow,
    Shard,
)
from trainer.tables import Checkpoint, Evaluation, Run

router = reading_router("stages")


class Stages(BaseModel):
    """Counts of each stage, in the order of a datum's way."""

    log_waiting: int | None = Field(
        description="records of the event log that are not consumed yet; null while it is away"
    )
    events: int
    dead_letters: int
    sessions: dict[str, int] = Field(description="by split")
    sessions_to_cut: int = Field(description="with events that came since their last cut")
    episodes: dict[str, int] = Field(description="by state")
    revision: int = Field(description="of the buffer")
    samples: int = Field(description="in the buffer; retired ones are not counted")
    trainable: int = Field(description="samples with frames of the split `train`: they get latents")
    shards: dict[str, int] = Field(description="by representation")
    latents: dict[str, int] = Field(description="samples of the buffer that have them, by encoder")
    runs: dict[str, int] = Field(description="by state")
    checkpoints: int
    evaluations: dict[str, int] = Field(description="by state")


@router.get("/stages")
def get_stages(request: Request, engine: Database) -> Stages:
    """Counts of each stage now."""
    return count_stages(engine, request.app.state.event_log)


def count_stages(engine: Engine, event_log: EventLog) -> Stages:
    """Counts of each stage now; raises sqlalchemy's OperationalError."""
    with read(engine) as session:
        offsets = next_offsets(session, event_log)
    log_waiting = _log_waiting(event_log, offsets)  # brokers may take seconds to answer
    with read(engine) as session:
        return Stages(
            log_waiting=log_waiting,
            events=_count(session, select(func.count(EventRow.number))),
            dead_letters=_count(session, select(func.count(DeadLetter.dead_letter_id))),
            sessions=_counts(session, SessionRow.split),
            sessions_to_cut=_count(session, select(func.count()).where(SessionRow.needs_cut)),
            episodes=_counts(session, Episode.state),
            revision=latest_revision(session),
            samples=_count(session, select(func.count()).where(Sample.retired_revision.is_(None))),
            trainable=_count(
                session,
                select(func.count()).where(
                    Sample.split == "train",
                    Sample.retired_revision.is_(None),
                    Sample.environment != ENVIRONMENT,
                ),
            ),
            shards=_counts(session, Shard.representation),
            latents=_latents(session),
            runs=_counts(session, Run.state),
            checkpoints=_count(
                session, select(func.count()).where(Checkpoint.removed_at.is_(None))
            ),
            evaluations=_counts(session, Evaluation.state),
        )


def next_offsets(session: Session, event_log: EventLog) -> Mapping[int, int]:
    """Where SQL says that each partition goes on."""
    rows = session.scalars(select(LogOffset).where(LogOffset.log_id == event_log.log_id))
    offsets = dict.fromkeys(range(event_log.num_partitions), 0)
    return offsets | {row.partition: row.next_offset for row in rows}


def _log_waiting(event_log: EventLog, offsets: Mapping[int, int]) -> int | None:
    try:
        return event_log.num_waiting(offsets)
    except LogUnavailable:
        return None


def _latents(session: Session) -> dict[str, int]:
    """Placements of live samples; the retired, who are few, are counted and taken off."""
    by_encoder = (
        select(Placement.representation, func.count())
        .where(Placement.representation.not_in((FRAME, DOCUMENT)))
        .group_by(Placement.representation)
    )
    retired = by_encoder.join(Sample, Sample.number == Placement.sample_number).where(
        Sample.retired_revision.is_not(None)
    )
    num_retired = dict(session.execute(retired).all())
    placed = session.execute(by_encoder)
    return {name: count - num_retired.get(name, 0) for name, count in placed}


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(query) or 0


def _counts(session: Session, column: InstrumentedAttribute[Any]) -> dict[str, int]:
    query = select(column, func.count()).group_by(column).order_by(column)
    return dict(session.execute(query).all())
