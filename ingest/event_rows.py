"""Envelopes to rows: events, their sessions, and dead letters, within the caller's transaction.

In: envelopes in the order of the log. Out: rows, each event once. Guaranteed: the first event of an
identity (source, event_id) wins; the same again is a duplicate, a differing one a dead letter
`conflict`; a dead letter is kept once however often it is sent.
Decision: a session's split is drawn when it is first seen, from the hash of its user (so that no
person is on both sides) or, where there is none, of the session, and never changes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from ingest.envelope import Envelope, Unreadable
from ingest.events import Event, event_digest, payload_json, session_key
from ingest.ids import content_id
from ingest.tables import DeadLetter, EventRow, SessionRow


@dataclass
class Stored:
    """What became of a transaction's events."""

    num_events: int = 0
    num_duplicates: int = 0
    num_dead_letters: int = 0


@dataclass
class _Visit:
    """What one transaction brings for one session."""

    source: str
    received_at: float
    events: list[Event] = field(default_factory=list)

    @property
    def user_id(self) -> str | None:
        return next((event.user_id for event in self.events if event.user_id), None)

    @property
    def timestamps(self) -> list[float]:
        return [event.timestamp for event in self.events]


def store(session: Session, envelopes: Sequence[Envelope], *, eval_percent: int) -> Stored:
    """Write what envelopes bring; sessions with news are marked `needs_cut`."""
    stored = Stored()
    digests = _known_digests(session, envelopes)
    rows: list[dict[str, object]] = []
    visits: dict[str, _Visit] = {}
    dead = [(envelope, item) for envelope in envelopes for item in envelope.unreadable]
    for envelope in envelopes:
        for event in envelope.events:
            identity = (envelope.source, event.event_id)
            digest = event_digest(event)
            if identity in digests:
                if digests[identity] == digest:
                    stored.num_duplicates += 1
                else:
                    dead.append((envelope, _conflict(event)))
                continue
            digests[identity] = digest
            row = _row(envelope, event, digest)
            rows.append(row)
            visit = visits.setdefault(str(row["session_key"]), _Visit(envelope.source, 0.0))
            visit.events.append(event)
            visit.received_at = max(visit.received_at, envelope.received_at)
    _store_sessions(session, visits, eval_percent)
    if rows:
        session.execute(insert(EventRow), rows)
    stored.num_events = len(rows)
    stored.num_dead_letters = _store_dead_letters(session, dead)
    return stored


def split_of(user_id: str | None, key: str, eval_percent: int) -> str:
    """`eval` for so many per cent of the users (of the sessions where there is no user)."""
    draw = int(content_id("split", user_id or key)[:8], 16) % 100
    return "eval" if draw < eval_percent else "train"


def _known_digests(session: Session, envelopes: Iterable[Envelope]) -> dict[tuple[str, str], str]:
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for envelope in envelopes:
        ids[envelope.source].update(event.event_id for event in envelope.events)
    return {
        (source, event_id): digest
        for source, event_ids in ids.items()
        for event_id, digest in session.execute(
            select(EventRow.event_id, EventRow.digest).where(
                EventRow.source == source, EventRow.event_id.in_(event_ids)
            )
        )
    }


def _row(envelope: Envelope, event: Event, digest: str) -> dict[str, object]:
    return {
        "source": envelope.source,
        "event_id": event.event_id,
        "session_key": session_key(envelope.source, event.session_id),
        "kind": event.kind,
        "sequence": event.sequence,
        "timestamp": event.timestamp,
        "payload_json": payload_json(event),
        "model": event.model,
        "frame": event.frame,
        "digest": digest,
        "received_at": envelope.received_at,
    }


def _store_sessions(session: Session, visits: dict[str, _Visit], eval_percent: int) -> None:
    known = {
        row.session_key: row
        for row in session.scalars(select(SessionRow).where(SessionRow.session_key.in_(visits)))
    }
    for key, visit in visits.items():
        if key in known:
            _extend(known[key], visit)
        else:
            session.add(_new_session(key, visit, eval_percent))
    session.flush()


def _new_session(key: str, visit: _Visit, eval_percent: int) -> SessionRow:
    return SessionRow(
        session_key=key,
        source=visit.source,
        session_id=visit.events[0].session_id,
        user_id=visit.user_id,
        split=split_of(visit.user_id, key, eval_percent),
        first_timestamp=min(visit.timestamps),
        last_timestamp=max(visit.timestamps),
        received_at=visit.received_at,
        num_events=len(visit.events),
        needs_cut=True,
    )


def _extend(row: SessionRow, visit: _Visit) -> None:
    row.user_id = row.user_id or visit.user_id
    row.first_timestamp = min(row.first_timestamp, *visit.timestamps)
    row.last_timestamp = max(row.last_timestamp, *visit.timestamps)
    row.received_at = max(row.received_at, visit.received_at)
    row.num_events += len(visit.events)
    row.needs_cut = True


def _conflict(event: Event) -> Unreadable:
    return Unreadable(
        code="conflict",
        detail=f"event_id: {event.event_id} was used before for another event; the first is kept",
        original=event.model_dump_json(exclude_unset=True).encode(),
    )


def _store_dead_letters(session: Session, dead: Iterable[tuple[Envelope, Unreadable]]) -> int:
    rows = {
        content_id(envelope.source, item.code, item.original): {
            "source": envelope.source,
            "code": item.code,
            "detail": item.detail,
            "original": item.original,
            "received_at": envelope.received_at,
        }
        for envelope, item in dead
    }
    known = set(
        session.scalars(
            select(DeadLetter.dead_letter_id).where(DeadLetter.dead_letter_id.in_(rows))
        )
    )
    fresh = [row | {"dead_letter_id": key} for key, row in rows.items() if key not in known]
    if fresh:
        session.execute(insert(DeadLetter), fresh)
    return len(fresh)
