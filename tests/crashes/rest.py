"""Waiting until an installation has done all that it was given: nothing waits at any stage."""

import time

from sqlalchemy import Engine, exists, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import aliased

from ingest.buffer import FRAME
from ingest.database import read
from ingest.log import LogUnavailable, open_log
from ingest.tables import (
    IS_WAITING_DOCUMENT,
    Episode,
    EventRow,
    LogOffset,
    Placement,
    Sample,
    SessionRow,
)
from tests.crashes.installation import Installation

REST_WITHIN_S = 240.0
LOOK_EVERY_S = 0.1
UNFINISHED = ("open", "waiting", "leased", "parked")


def wait_for_rest(installation: Installation) -> None:
    """Return once nothing waits; fails naming what does."""
    deadline = time.monotonic() + REST_WITHIN_S
    while left := _left(installation):
        assert time.monotonic() < deadline, f"{installation.size} comes to no rest: {left}"
        time.sleep(LOOK_EVERY_S)


def _left(installation: Installation) -> dict[str, int]:
    """How much waits, by what it is; the log is asked only where its rows seem done."""
    try:
        left = _left_in_sql(installation.engine)
        if not left and not (left := _left_in_log(installation)):
            left = _left_in_sql(installation.engine)  # what the log had may be rows by now
    except (OperationalError, LogUnavailable):
        return {"servers": 1}
    return left


def _left_in_log(installation: Installation) -> dict[str, int]:
    with open_log(installation.settings) as event_log, read(installation.engine) as session:
        offsets = {
            row.partition: row.next_offset
            for row in session.scalars(
                select(LogOffset).where(LogOffset.log_id == event_log.log_id)
            )
        }
        known = {
            partition: offsets.get(partition, 0) for partition in range(event_log.num_partitions)
        }
        return _some({"records": event_log.num_waiting(known)})


def _left_in_sql(engine: Engine) -> dict[str, int]:
    latent = aliased(Placement)
    has_latent = exists().where(
        latent.sample_number == Sample.number, latent.representation.startswith("latent:")
    )
    is_unencoded = (
        Placement.representation == FRAME,
        Sample.retired_revision.is_(None),
        Sample.split == "train",
        ~has_latent,
    )
    unencoded = select(func.count()).select_from(Sample).join(Placement).where(*is_unencoded)
    with read(engine) as session:
        return _some(
            {
                "sessions": session.scalar(select(func.count()).where(SessionRow.needs_cut)) or 0,
                "documents": session.scalar(
                    select(func.count()).select_from(EventRow).where(IS_WAITING_DOCUMENT)
                )
                or 0,
                "episodes": session.scalar(
                    select(func.count()).where(Episode.state.in_(UNFINISHED))
                )
                or 0,
                "unencoded": session.scalar(unencoded) or 0,
            }
        )


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
