"""Envelopes to rows: events, their sessions, and dead letters, within the caller's transaction.

In: envelopes in the order of the log. Out: rows, each event once. Guaranteed: the first event of an
identity (source, event_id) wins; the same again is a duplicate, a differing one a dead letter
`conflict`; a dead letter is kept once however often it is sent; what is forgotten stays out.
Decision: a session's split is drawn when it is first seen, from the hash of its user (so that no
person is on both sides) or, where there is none, of the session, and never changes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ingest.database import insert_rows, is_among, share_turn
from ingest.envelope import Envelope, Unreadable
from ingest.events import Event, event_digest, event_line, payload_json, session_key
from ingest.forgetting.tombstones import (
    TURN,
    load_forgotten,
    session_tombstone,
    tombstones_in,
    user_tombstone,
)
from ingest.ids import content_id
from ingest.sources import introduce
from ingest.tables import DeadLetter, EventRow, Sample, SessionRow, Source

_EVENTS = EventRow.metadata.tables["events"]
_COLUMNS = (
    "source",
    "event_id",
    "session_key",
    "kind",
    "sequence",
    "timestamp",
    "payload_json",
    "model",
    "frame",
    "digest",
    "received_at",
)


class Arrival(NamedTuple):
    """One event of an envelope, hashed and ready to be a row."""

    source: str
    received_at: float
    event: Event
    session_key: str
    digest: str
    payload_json: str


@dataclass(frozen=True)
class Delivery:
    """All that some envelopes bring, made without the write lock; `dead` by id."""

    arrivals: Sequence[Arrival]
    dead: Mapping[str, DeadLetter]


@dataclass(frozen=True)
class Stored:
    """What became of a delivery."""

    num_events: int
    num_duplicates: int
    num_dead_letters: int


def unfold(envelopes: Sequence[Envelope]) -> Delivery:
    """Hash and serialise what envelopes hold."""
    key_of = cache(session_key)
    arrivals = [
        Arrival(
            envelope.origin.source,
            envelope.origin.received_at,
            event,
            key_of(envelope.origin.source, event.session_id),
            event_digest(event),
            payload_json(event),
        )
        for envelope in envelopes
        for event in envelope.events
    ]
    dead = [
        _dead_letter(envelope.origin.source, envelope.origin.received_at, item)
        for envelope in envelopes
        for item in envelope.unreadable
    ]
    return Delivery(arrivals, {letter.dead_letter_id: letter for letter in dead})


def store(session: Session, delivery: Delivery, *, eval_percent: int) -> Stored:
    """Write what is new; sessions with news to cut are marked `needs_cut`."""
    share_turn(session, TURN)
    delivery = _without_forgotten(session, delivery)
    digests = _known_digests(session, delivery.arrivals)
    fresh: list[Arrival] = []
    dead = dict(delivery.dead)
    num_conflicts = 0
    for arrival in delivery.arrivals:
        identity = (arrival.source, arrival.event.event_id)
        if identity not in digests:
            digests[identity] = arrival.digest
            fresh.append(arrival)
        elif digests[identity] != arrival.digest:
            letter = _conflict(arrival)
            dead[letter.dead_letter_id] = letter
            num_conflicts += 1
    _store_sessions(session, fresh, eval_percent)
    insert_rows(session, _EVENTS, _COLUMNS, [_row(arrival) for arrival in fresh])
    num_duplicates = len(delivery.arrivals) - len(fresh) - num_conflicts
    return Stored(len(fresh), num_duplicates, _store_dead_letters(session, dead))


def _without_forgotten(session: Session, delivery: Delivery) -> Delivery:
    """What may come in: nothing of a user or a session that is forgotten."""
    named = {
        tombstone_id
        for letter in delivery.dead.values()
        for tombstone_id in tombstones_in(letter.source, letter.original)
    }
    keys = {arrival.session_key for arrival in delivery.arrivals}
    users = {(each.source, each.event.user_id) for each in delivery.arrivals if each.event.user_id}
    named |= {session_tombstone(key) for key in keys}
    named |= {user_tombstone(source, user_id) for source, user_id in users}
    forgotten = load_forgotten(session, named)
    if not forgotten:
        return delivery
    arrivals = [
        each
        for each in delivery.arrivals
        if not forgotten.has_session(each.session_key)
        and not forgotten.has_user(each.source, each.event.user_id, each.received_at)
    ]
    dead = {
        key: letter
        for key, letter in delivery.dead.items()
        if not forgotten.has_original(letter.source, letter.original, letter.received_at)
    }
    return Delivery(arrivals, dead)


def split_of(user_id: str | None, key: str, eval_percent: int) -> str:
    """`eval` for so many per cent of the users (of the sessions where there is no user)."""
    draw = int(content_id("split", user_id or key)[:8], 16) % 100
    return "eval" if draw < eval_percent else "train"


def _known_digests(session: Session, arrivals: Iterable[Arrival]) -> dict[tuple[str, str], str]:
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for arrival in arrivals:
        ids[arrival.source].add(arrival.event.event_id)
    return {
        (source, event_id): digest
        for source, event_ids in ids.items()
        for event_id, digest in session.execute(
            select(EventRow.event_id, EventRow.digest).where(
                EventRow.source == source, is_among(session, EventRow.event_id, event_ids)
            )
        )
    }


def _row(arrival: Arrival) -> tuple[object, ...]:
    event = arrival.event
    return (
        arrival.source,
        event.event_id,
        arrival.session_key,
        event.kind,
        event.sequence,
        event.timestamp,
        arrival.payload_json,
        event.model,
        event.frame,
        arrival.digest,
        arrival.received_at,
    )


def _store_sessions(session: Session, fresh: Iterable[Arrival], eval_percent: int) -> None:
    visits: defaultdict[str, list[Arrival]] = defaultdict(list)
    for arrival in fresh:
        visits[arrival.session_key].append(arrival)
    # Locked, as another consumer may be cutting them; in one order, as may others.
    present = (
        select(SessionRow)
        .where(SessionRow.session_key.in_(visits))
        .order_by(SessionRow.session_key)
        .with_for_update(key_share=True)
    )
    known = {row.session_key: row for row in session.scalars(present)}
    sources: set[str] = set()
    for key, arrivals in visits.items():
        events = [arrival.event for arrival in arrivals]
        user_id = next((event.user_id for event in events if event.user_id), None)
        row = known.get(key)
        if row is None:
            row = _new_session(arrivals[0], split_of(user_id, key, eval_percent))
            session.add(row)
            sources.add(row.source)
        elif user_id and row.user_id is None:
            _name_owner(session, key, user_id)
        timestamps = [event.timestamp for event in events]
        row.user_id = row.user_id or user_id
        row.first_timestamp = min(row.first_timestamp, *timestamps)
        row.last_timestamp = max(row.last_timestamp, *timestamps)
        row.received_at = max(row.received_at, *(arrival.received_at for arrival in arrivals))
        row.num_events += len(arrivals)
        row.needs_cut |= any(event.kind != "document" for event in events)
    session.flush()
    if sources:
        _store_sources(session, sources)


def _name_owner(session: Session, key: str, user_id: str) -> None:
    """A session that turns out to be somebody's was theirs from its first sample on.

    So it counts towards one user's share, and not a part of it towards a stranger's.
    """
    session.execute(update(Sample).where(Sample.session_key == key).values(user_id=user_id))


def _store_sources(session: Session, names: set[str]) -> None:
    """Make sources known whose key was not made to send with, such as an admin's."""
    for name in names - set(session.scalars(select(Source.name).where(Source.name.in_(names)))):
        introduce(session, name)


def _new_session(first: Arrival, split: str) -> SessionRow:
    return SessionRow(
        session_key=first.session_key,
        source=first.source,
        session_id=first.event.session_id,
        split=split,
        first_timestamp=first.event.timestamp,
        last_timestamp=first.event.timestamp,
        received_at=first.received_at,
        num_events=0,
        needs_cut=False,
    )


def _conflict(arrival: Arrival) -> DeadLetter:
    event = arrival.event
    item = Unreadable(
        code="conflict",
        detail=f"event_id: {event.event_id} was used before for another event; the first is kept",
        original=event_line(event),
    )
    return _dead_letter(arrival.source, arrival.received_at, item)


def _dead_letter(source: str, received_at: float, item: Unreadable) -> DeadLetter:
    return DeadLetter(
        dead_letter_id=content_id(source, item.code, item.original),
        source=source,
        code=item.code,
        detail=item.detail,
        original=item.original,
        received_at=received_at,
    )


def _store_dead_letters(session: Session, dead: Mapping[str, DeadLetter]) -> int:
    """Keep those that are new; returns how many."""
    known = set(
        session.scalars(
            select(DeadLetter.dead_letter_id).where(DeadLetter.dead_letter_id.in_(dead))
        )
    )
    fresh = [letter for key, letter in dead.items() if key not in known]
    session.add_all(fresh)
    return len(fresh)
