"""The stage that places documents: texts that wait become samples, many to a shard.

In: events of kind `document` without an episode. Out: for up to 256 of them one shard of
`{key}.txt` and `{key}.json`, and in ONE transaction their episodes, samples, places and the
revision. The transaction checks that all of them still wait: a crash before it leaves at most a
file that nothing points at, and what another process placed meanwhile stays as it is.

A document is an episode of its own, of one sample and no action, with an id from its content. It is
`placed` from its first row on: there is nothing to cut, and no replay worker ever sees it waiting.
One whose shard was damaged waits again as an event, and is placed under the ids that it had.

The decision: 256 documents, or 16 MiB, a shard. A thousand documents that came together are 4 files
and hold the write lock for 25 ms each.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from sqlalchemy import Engine, bindparam, func, select, update
from sqlalchemy.orm import Session

from ingest.buffer import (
    DOCUMENT,
    NewSample,
    add_episodes,
    add_shard,
    new_revision,
    sample_key,
    unplace,
)
from ingest.cut_plan import PLACED
from ingest.database import read, write
from ingest.ids import content_id
from ingest.shard_store import ShardStore
from ingest.shards import ShardWriter, WrittenShard
from ingest.tables import IS_WAITING_DOCUMENT, Episode, EventRow, SessionRow, Shard

ENVIRONMENT = "text/1"
FOLDER = "documents"
DOCUMENTS_PER_SHARD = 256
MAX_SHARD_BYTES = 16 << 20
VERSION = 1  # a document never changes: a differing one under the same id is a dead letter

_EVENTS = EventRow.metadata.tables["events"]
_PLACE = (
    update(_EVENTS)
    .where(_EVENTS.c.number == bindparam("event"))
    .values(episode_id=bindparam("episode"), position=0)
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Document:
    """One that waits; `payload` is the event's, its text included."""

    number: int
    event_id: str
    episode_id: str
    session_key: str
    timestamp: float
    payload: dict[str, Any]

    def members(self) -> list[tuple[str, bytes]]:
        """Its files in a shard."""
        key = sample_key(self.episode_id, VERSION, 0)
        described = {name: value for name, value in self.payload.items() if name != "text"}
        about = {"event_id": self.event_id, "timestamp": self.timestamp, "payload": described}
        return [
            (f"{key}.txt", self.payload["text"].encode()),
            (f"{key}.json", orjson.dumps(about | {"environment": ENVIRONMENT})),
        ]


class _PlacedElsewhere(Exception):
    """Some of them wait no more: another process has placed them, or they are forgotten."""

    def __init__(self, shard: WrittenShard) -> None:
        super().__init__(shard.path)
        self.shard = shard


def place_documents(engine: Engine, store: ShardStore) -> int:
    """Make every document that waits a sample; returns how many.

    Raises OSError where the disk takes no shard, sqlalchemy's DBAPIError for the database.
    """
    num_placed = 0
    while documents := _waiting(engine):
        try:
            _place(engine, store, documents)
        except _PlacedElsewhere as elsewhere:
            _drop_forgotten(engine, store, documents, elsewhere.shard)
            log.info("documents_placed_elsewhere", num_documents=len(documents))
            break
        num_placed += len(documents)
    return num_placed


def _waiting(engine: Engine) -> list[Document]:
    """The oldest that wait, as many as go into one shard."""
    query = (
        select(
            EventRow.number,
            EventRow.event_id,
            EventRow.session_key,
            EventRow.timestamp,
            EventRow.payload_json,
            SessionRow.source,
            SessionRow.session_id,
        )
        .join(SessionRow, SessionRow.session_key == EventRow.session_key)
        .where(IS_WAITING_DOCUMENT)
        .order_by(EventRow.number)
        .limit(DOCUMENTS_PER_SHARD)
        .execution_options(yield_per=16)
    )
    documents: list[Document] = []
    num_bytes = 0
    with read(engine) as session, closing(session.execute(query)) as rows:
        for row in rows:
            num_bytes += len(row.payload_json)
            if documents and num_bytes > MAX_SHARD_BYTES:
                break
            documents.append(
                Document(
                    number=row.number,
                    event_id=row.event_id,
                    episode_id=content_id(row.source, row.session_id, row.event_id),
                    session_key=row.session_key,
                    timestamp=row.timestamp,
                    payload=orjson.loads(row.payload_json),
                )
            )
    return documents


def _place(engine: Engine, store: ShardStore, documents: Sequence[Document]) -> None:
    with ShardWriter(store, FOLDER) as writer:
        spans = [writer.add(document.members()) for document in documents]
        shard = writer.publish()
    episodes = [_episode(document) for document in documents]  # built before the lock is held
    samples = [[_sample(document)] for document in documents]
    now = time.time()
    count = len(documents)
    with write(engine) as session:
        revision = new_revision(session, "placed", added=count, retired=0, now=now)
        if _num_waiting(session, documents) < count:
            raise _PlacedElsewhere(shard)
        again = _known(session, episodes)
        episodes = [again.get(each.episode_id, each) for each in episodes]
        session.add_all(episodes)
        session.flush()
        session.execute(
            _PLACE,
            [{"event": each.number, "episode": each.episode_id} for each in documents],
        )
        numbers = add_episodes(session, list(zip(episodes, samples, strict=True)), revision)
        if again:
            unplace(session, numbers, DOCUMENT)
        placed = list(zip(numbers, spans, strict=True))
        add_shard(session, shard, DOCUMENT, placed=placed, revision=revision, now=now)
    log.info("documents_placed", num_documents=count, shard_id=shard.shard_id, revision=revision)


def _drop_forgotten(
    engine: Engine, store: ShardStore, documents: Sequence[Document], shard: WrittenShard
) -> None:
    """Remove a shard with a text that is forgotten; without it, it has another name."""
    numbers = [document.number for document in documents]
    present = EventRow.number.in_(numbers), EventRow.kind == "document"
    with read(engine) as session:
        num_present = session.scalar(select(func.count()).select_from(EventRow).where(*present))
        is_indexed = session.get(Shard, shard.shard_id) is not None
    if num_present != len(numbers) and not is_indexed:
        store.remove(shard.path)


def _known(session: Session, episodes: Sequence[Episode]) -> dict[str, Episode]:
    """Those that were placed before, by id."""
    ids = [episode.episode_id for episode in episodes]
    known = session.scalars(select(Episode).where(Episode.episode_id.in_(ids)))
    return {episode.episode_id: episode for episode in known}


def _num_waiting(session: Session, documents: Sequence[Document]) -> int:
    numbers = [document.number for document in documents]
    is_waiting = (EventRow.number.in_(numbers), IS_WAITING_DOCUMENT)
    return session.scalar(select(func.count()).select_from(EventRow).where(*is_waiting)) or 0


def _episode(document: Document) -> Episode:
    return Episode(
        episode_id=document.episode_id,
        session_key=document.session_key,
        ordinal=0,
        version=VERSION,
        digest=content_id("", document.event_id),
        num_actions=0,
        num_unrecorded=0,
        first_timestamp=document.timestamp,
        last_timestamp=document.timestamp,
        num_auto=0,
        state=PLACED,
        attempts=0,
        environment=ENVIRONMENT,
        tasks="",
        num_stuck_keys=0,
    )


def _sample(document: Document) -> NewSample:
    return NewSample(
        position=0,
        event_number=document.number,
        timestamp=document.timestamp,
        changes=(),
        ticks_since_change=None,
        is_auto=False,
    )
