"""Rows against rows: every event in an episode or waiting, every live sample with its place.

In: the index. Out: a finding for each episode, session or counter that does not add up. Guaranteed:
each piece is judged as of one moment, so what comes and goes meanwhile is never half seen.
Decision: 500 sessions or episodes a read, which takes some 10 ms; counted by their indexes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, Select, and_, case, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from ingest.buffer import DOCUMENT, FRAME
from ingest.cut_plan import PLACED, SUPERSEDED
from ingest.database import read
from ingest.integrity.finding import Finding, Seen
from ingest.tables import (
    Counter,
    Episode,
    EventRow,
    Mix,
    Placement,
    Revision,
    Sample,
    SessionRow,
)

ROWS_A_READ = 500

Row = TypeVar("Row", SessionRow, Episode)


def check_sessions(engine: Engine, seen: Seen) -> Iterator[Finding]:
    """Check that every action is in an episode that there is, or waits to be cut into one."""
    return _judged(engine, select(SessionRow), SessionRow.session_key, _judge_sessions, seen)


def check_episodes(engine: Engine, seen: Seen) -> Iterator[Finding]:
    """Check that every episode has its events, its samples, and a place for each of these."""
    present = select(Episode).where(Episode.state != SUPERSEDED)
    return _judged(engine, present, Episode.episode_id, _judge_episodes, seen)


def _judge_sessions(session: Session, rows: Sequence[SessionRow], seen: Seen) -> Iterator[Finding]:
    keys = [row.session_key for row in rows]
    counts = _counts(session, EventRow.session_key, keys)
    astray = _counts(session, EventRow.session_key, keys, _is_astray())
    seen["sessions"] += len(rows)
    seen["events"] += sum(counts.values())
    for row in rows:
        name = f"{row.source}/{row.session_id}"
        if (found := counts.get(row.session_key, 0)) != row.num_events:
            detail = f"{name}: {found} events, {row.num_events} were counted"
            yield Finding("session_miscounted", row.session_key, detail)
        if row.session_key in astray and not row.needs_cut:
            detail = f"{name}: {astray[row.session_key]} actions are in no episode"
            yield Finding("events_unplaced", row.session_key, detail)


def _judge_episodes(session: Session, rows: Sequence[Episode], seen: Seen) -> Iterator[Finding]:
    ids = [row.episode_id for row in rows]
    events = _counts(session, EventRow.episode_id, ids)
    samples = _counts(session, Sample.episode_id, ids, _is_present())
    live = _counts(session, Sample.episode_id, ids, _is_live())
    unplaced = _counts(session, Sample.episode_id, ids, and_(_is_live(), ~_has_place()))
    waiting = set(session.scalars(_waiting_documents(ids)))
    seen["episodes"] += len(rows)
    seen["samples"] += sum(live.values())
    for row in rows:
        episode_id = row.episode_id
        if episode_id in waiting:
            continue
        if detail := _lost_events(row, events.get(episode_id, 0)):
            yield Finding("events_lost", row.session_key, detail)
        elif detail := _lost_samples(row, samples.get(episode_id, 0)):
            yield Finding("episode_incomplete", episode_id, detail)
        elif episode_id in unplaced:
            detail = f"{unplaced[episode_id]} live samples have no place"
            yield Finding("episode_unplaced", episode_id, detail)


def check_counters(engine: Engine, seen: Seen) -> Iterator[Finding]:
    """Check that no counter would give a number that is taken."""
    with read(engine) as session:
        values = {row.name: row.value for row in session.scalars(select(Counter))}
        for name, taken in taken_numbers(session).items():
            seen["counters"] += 1
            if (value := values.get(name, 0)) < taken:
                detail = f"stands at {value}, but {taken} is taken"
                yield Finding("counter_behind", name, detail)


def taken_numbers(session: Session) -> dict[str, int]:
    """The largest number that is in use, by counter."""
    mixes = session.execute(select(Mix.name, func.max(Mix.version)).group_by(Mix.name))
    return {
        "revision": session.scalar(select(func.max(Revision.number))) or 0,
        "sample": session.scalar(select(func.max(Sample.number))) or 0,
        **{f"mix:{name}": version for name, version in mixes},
    }


def _judged(
    engine: Engine,
    query: Select[Any],
    key: InstrumentedAttribute[str],
    judge: Callable[[Session, Sequence[Row], Seen], Iterable[Finding]],
    seen: Seen,
) -> Iterator[Finding]:
    """The findings of all rows, a piece of them at a time, each piece in a transaction."""
    last = ""
    while True:
        piece = query.where(key > last).order_by(key).limit(ROWS_A_READ)
        with read(engine) as session:
            rows: Sequence[Row] = session.scalars(piece).all()
            findings = list(judge(session, rows, seen))
        if not rows:
            return
        yield from findings
        last = getattr(rows[-1], key.key)


def _counts(
    session: Session,
    key: InstrumentedAttribute[Any],
    keys: Sequence[str],
    condition: ColumnElement[bool] | None = None,
) -> Mapping[str, int]:
    """How many rows each key has; keys without any are left out."""
    query = select(key, func.count()).where(key.in_(keys)).group_by(key)
    if condition is not None:
        query = query.where(condition)
    return dict(session.execute(query).all())


def _lost_events(row: Episode, num_events: int) -> str | None:
    expected = 1 if row.state == PLACED else row.num_actions
    if num_events == expected:
        return None
    return f"episode {row.episode_id} has {num_events} events, {expected} were cut into it"


def _lost_samples(row: Episode, num_samples: int) -> str | None:
    is_replayed = row.state == "replayed" and row.replayed_version == row.version
    if not is_replayed and row.state != PLACED:
        return None
    expected = 1 if row.state == PLACED else row.num_actions
    return None if num_samples == expected else f"{num_samples} samples of {expected}"


def _waiting_documents(episode_ids: Sequence[str]) -> Select[Any]:
    """Documents whose shard was lost, and whose events wait to be placed once more."""
    is_waiting = EventRow.kind == "document", EventRow.episode_id.is_(None)
    return (
        select(Sample.episode_id)
        .join(EventRow, EventRow.number == Sample.event_number)
        .where(Sample.episode_id.in_(episode_ids), *is_waiting)
    )


def _is_astray() -> ColumnElement[bool]:
    """Of actions that no present episode holds."""
    holds = exists().where(Episode.episode_id == EventRow.episode_id, Episode.state != SUPERSEDED)
    return and_(EventRow.kind == "action", ~holds.correlate(EventRow))


def _is_present() -> ColumnElement[bool]:
    """Of samples of their episode's present version."""
    version = select(Episode.version).where(Episode.episode_id == Sample.episode_id)
    return Sample.episode_version == version.correlate(Sample).scalar_subquery()


def _is_live() -> ColumnElement[bool]:
    return Sample.retired_revision.is_(None)


def _has_place() -> ColumnElement[bool]:
    """Of samples whose own frame or text lies in a shard."""
    own = case((Sample.environment.startswith("text/"), DOCUMENT), else_=FRAME)
    has = exists().where(Placement.sample_number == Sample.number, Placement.representation == own)
    return has.correlate(Sample)
