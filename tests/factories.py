"""Rows for tests, made as the real stages make them, with only what a test cares about spelled out.

All take the transaction's `session` and never commit. `make_samples` fills the buffer without
files; where bytes matter, run the replay worker.
"""

import itertools
from collections.abc import Mapping, Sequence

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.buffer import FRAME, NewSample, add_samples, add_shard, new_revision, spaced
from ingest.database import next_number
from ingest.ids import content_id
from ingest.shards import Span, WrittenShard
from ingest.tables import Episode, EventRow, SessionRow, Source

START = 1_754_600_000.0
TICK_S = 0.25
IDLE_PAYLOAD = {
    "x": 256,
    "y": 192,
    "is_left_click": False,
    "is_right_click": False,
    "keys_down": [],
    "keys_up": [],
    "wheel_delta_x": 0,
    "wheel_delta_y": 0,
    "is_auto_input": False,
}
_unique = itertools.count(1)


def action_payload(**changed: object) -> dict[str, object]:
    """A NeuralOS action's payload: the pointer rests at (256, 192) unless told otherwise."""
    return IDLE_PAYLOAD | changed


def make_session(
    session: Session,
    *,
    session_id: str | None = None,
    source: str = "demo",
    user_id: str | None = None,
    split: str = "train",
    start: float = START,
) -> SessionRow:
    """A visit without events yet; its source is released."""
    released = {"created_at": start, "released_at": start, "released_revision": 0}
    session.merge(Source(name=source, **released))
    session_id = session_id or f"visit-{next(_unique)}"
    row = SessionRow(
        session_key=content_id(source, session_id),
        source=source,
        session_id=session_id,
        user_id=user_id,
        split=split,
        first_timestamp=start,
        last_timestamp=start,
        received_at=start,
        num_events=0,
        needs_cut=False,
    )
    session.add(row)
    session.flush()
    return row


def make_events(
    session: Session, owner: SessionRow, payloads: Sequence[Mapping[str, object]]
) -> list[EventRow]:
    """Actions of a visit, one tick apart, after the events that it has."""
    rows = []
    for sequence, payload in enumerate(payloads, start=owner.num_events):
        event_id = content_id(owner.session_key, str(sequence))
        payload_json = orjson.dumps(payload).decode()
        rows.append(
            EventRow(
                source=owner.source,
                event_id=event_id,
                session_key=owner.session_key,
                kind="action",
                sequence=sequence,
                timestamp=owner.first_timestamp + TICK_S * sequence,
                payload_json=payload_json,
                model=None,
                frame=None,
                digest=content_id(payload_json),
                received_at=owner.received_at,
                episode_id=None,
                position=None,
            )
        )
    owner.num_events += len(rows)
    owner.last_timestamp = rows[-1].timestamp if rows else owner.last_timestamp
    session.add_all(rows)
    session.flush()
    return rows


def make_documents(session: Session, owner: SessionRow, texts: Sequence[str]) -> None:
    """Documents of a visit that wait for `ingest.documents` to place them."""
    rows = make_events(session, owner, [{"text": text} for text in texts])
    for row in rows:
        row.kind = "document"
    session.flush()


def make_episode(
    session: Session,
    owner: SessionRow | None = None,
    payloads: Sequence[Mapping[str, object]] | int = 3,
    *,
    state: str = "waiting",
    ordinal: int = 0,
) -> Episode:
    """An episode of a visit, its events included; a number of payloads means idle ones."""
    owner = owner or make_session(session)
    if isinstance(payloads, int):
        payloads = [action_payload()] * payloads
    events = make_events(session, owner, payloads)
    episode = Episode(
        episode_id=content_id(owner.source, owner.session_id, events[0].event_id),
        session_key=owner.session_key,
        ordinal=ordinal,
        version=1,
        digest=content_id(*[event.event_id for event in events]),
        num_actions=len(events),
        num_unrecorded=0,
        first_timestamp=events[0].timestamp,
        last_timestamp=events[-1].timestamp,
        num_auto=0,
        state=state,
        attempts=0,
        lease_holder=None,
        lease_expires_at=None,
        error=None,
        environment=None,
        tasks="",
        num_stuck_keys=0,
        replayed_version=None,
        replayed_at=None,
    )
    session.add(episode)
    session.flush()
    for position, event in enumerate(events):
        event.episode_id, event.position = episode.episode_id, position
    session.flush()
    return episode


def make_samples(
    session: Session,
    *,
    owner: SessionRow | None = None,
    changes: Sequence[Sequence[str]] = ((), (), ()),
    ticks_since_change: Sequence[int | None] | None = None,
    tasks: Sequence[str] = (),
    environment: str = "drawn/1",
    representations: Sequence[str] = (FRAME,),
    now: float = START,
) -> range:
    """A replayed episode's samples, placed in shards that have no file; returns their numbers.

    One sample for each entry of `changes`, its labels; `now` is the revision's time.
    """
    episode = make_episode(session, owner, len(changes), state="replayed")
    episode.environment, episode.tasks = environment, spaced(tasks)
    events = session.scalars(
        select(EventRow)
        .where(EventRow.episode_id == episode.episode_id)
        .order_by(EventRow.position)
    ).all()
    ticks = ticks_since_change or [None] * len(changes)
    samples = [
        NewSample(position, event.number, event.timestamp, tuple(labels), age, is_auto=False)
        for position, (event, labels, age) in enumerate(zip(events, changes, ticks, strict=True))
    ]
    revision = new_revision(session, "replayed", added=len(samples), retired=0, now=now)
    numbers = add_samples(session, episode, samples, revision)
    for representation in representations:
        place_samples(session, numbers, representation, revision, now=now)
    return numbers


def place_samples(
    session: Session, numbers: Sequence[int], representation: str, revision: int, *, now: float
) -> str:
    """Places for samples in one shard that has no file; returns the shard's id."""
    shard_id = content_id(representation, str(next_number(session, "test-shard")))
    shard = WrittenShard(shard_id, f"none/{shard_id}.tar", 0, len(numbers), "0" * 64)
    placed = [(number, Span(512 * index, 512)) for index, number in enumerate(numbers)]
    add_shard(session, shard, representation, placed=placed, revision=revision, now=now)
    return shard_id
