"""The rows of forgotten sessions and of their dead letters, deleted in short transactions.

In: sessions by their keys. Out: none of their rows, but for the numbers that their samples had.
Guaranteed: from `withdraw` on nobody makes anything of these sessions any more: their samples are
retired as of a revision, which runs follow, their episodes are given to no worker, their documents
wait no longer. A crash leaves some of the rows, which the next call deletes.
"""

import time
from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Engine, delete, func, insert, select, update
from sqlalchemy.orm import Session

from ingest.buffer import lock_buffer, new_revision
from ingest.cut_plan import SUPERSEDED
from ingest.database import read, take_turn, write
from ingest.forgetting.tombstones import TURN, Forgotten, session_tombstone
from ingest.tables import (
    IS_WAITING_DOCUMENT,
    DeadLetter,
    Episode,
    EventRow,
    ForgottenSample,
    Sample,
    SessionRow,
)

ROWS_A_TRANSACTION = 500
# What was no record at all, see `consume`.
UNKNOWN_SOURCE = "unknown"

# How many went, by noun.
Counted = Counter[str]


def are_of(keys: Collection[str]) -> ColumnElement[bool]:
    """Of samples that come from these sessions."""
    episodes = select(Episode.episode_id).where(Episode.session_key.in_(keys))
    return Sample.episode_id.in_(episodes)


def withdraw(engine: Engine, keys: Collection[str]) -> None:
    """Take sessions out of everybody's hands."""
    with write(engine) as session:
        take_turn(session, TURN)
        lock_buffer(session)
        _remember(session, keys)
        is_live = are_of(keys), Sample.retired_revision.is_(None)
        count = session.scalar(select(func.count()).where(*is_live)) or 0
        revision = new_revision(session, "forgotten", added=0, retired=count, now=time.time())
        session.execute(update(Sample).where(*is_live).values(retired_revision=revision))
        nobodys = {"state": SUPERSEDED, "lease_holder": None, "lease_expires_at": None}
        session.execute(update(Episode).where(Episode.session_key.in_(keys)).values(**nobodys))
        waits = EventRow.session_key.in_(keys), IS_WAITING_DOCUMENT
        session.execute(update(EventRow).where(*waits).values(kind="end"))
        is_theirs = SessionRow.session_key.in_(keys)
        session.execute(update(SessionRow).where(is_theirs).values(needs_cut=False))


def delete_rows(engine: Engine, keys: Collection[str]) -> Counted:
    """Delete samples, events and episodes of withdrawn sessions that lie in no shard any more."""
    counted: Counted = Counter()
    while num_samples := _delete_samples(engine, keys):
        counted["samples"] += num_samples
    while num_events := _delete_events(engine, keys):
        counted["events"] += num_events
    with write(engine) as session:
        session.execute(delete(Episode).where(Episode.session_key.in_(keys)))
    return counted


def delete_sessions(engine: Engine, keys: Collection[str]) -> None:
    """Delete the sessions themselves, of which nothing else is left."""
    with write(engine) as session:
        session.execute(delete(SessionRow).where(SessionRow.session_key.in_(keys)))


def delete_dead_letters(engine: Engine, source: str, forgotten: Forgotten) -> int:
    """Delete the dead letters that name somebody who is forgotten; returns how many."""
    num_deleted, last = 0, ""
    while letters := _letters_after(engine, source, last):
        theirs = [
            letter.dead_letter_id
            for letter in letters
            if forgotten.has_original(source, letter.original, letter.received_at)
        ]
        if theirs:
            with write(engine) as session:
                session.execute(delete(DeadLetter).where(DeadLetter.dead_letter_id.in_(theirs)))
        num_deleted += len(theirs)
        last = letters[-1].dead_letter_id
    return num_deleted


def _letters_after(engine: Engine, source: str, last: str) -> Sequence[DeadLetter]:
    query = (
        select(DeadLetter)
        .where(DeadLetter.source.in_((source, UNKNOWN_SOURCE)), DeadLetter.dead_letter_id > last)
        .order_by(DeadLetter.dead_letter_id)
        .limit(ROWS_A_TRANSACTION)
    )
    with read(engine) as session:
        return session.scalars(query).all()


def _remember(session: Session, keys: Collection[str]) -> None:
    """Keep the numbers of samples, by which runs know what they have drawn."""
    known = select(ForgottenSample.sample_number)
    rows = session.execute(
        select(Sample.number, Sample.session_key).where(are_of(keys), Sample.number.not_in(known))
    ).all()
    if rows:
        session.execute(
            insert(ForgottenSample),
            [
                {"sample_number": number, "tombstone_id": session_tombstone(key)}
                for number, key in rows
            ],
        )


def _delete_samples(engine: Engine, keys: Collection[str]) -> int:
    some = select(Sample.number).where(are_of(keys)).limit(ROWS_A_TRANSACTION)
    with write(engine) as session:
        numbers = session.scalars(some).all()
        session.execute(delete(Sample).where(Sample.number.in_(numbers)))
    return len(numbers)


def _delete_events(engine: Engine, keys: Collection[str]) -> int:
    some = select(EventRow.number).where(EventRow.session_key.in_(keys)).limit(ROWS_A_TRANSACTION)
    with write(engine) as session:
        numbers = session.scalars(some).all()
        session.execute(delete(EventRow).where(EventRow.number.in_(numbers)))
    return len(numbers)
