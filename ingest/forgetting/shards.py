"""Shards without what is forgotten: written anew where others lie in them too, else removed.

In: a shard and the sessions that go. Out: no file with their bytes. Guaranteed: the others' places
move to the new file in one transaction, and only then is the old one removed, so a reader finds
one of the two: who has the old place finds it gone and asks for the place again. A crash anywhere
leaves rows from which the next call goes on.
"""

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import structlog
from sqlalchemy import Engine, bindparam, delete, select, update
from sqlalchemy.orm import Session

from ingest.buffer import GONE, LIVE, quarantine
from ingest.database import read, write
from ingest.forgetting.rows import are_of
from ingest.integrity.finding import Finding
from ingest.integrity.repair import Repair
from ingest.shard_store import ShardStore
from ingest.shards import CorruptShardError, ShardWriter, Span, WrittenShard, read_span, verify
from ingest.tables import Placement, Sample, Shard

_PLACEMENTS = Placement.metadata.tables["placements"]
_MOVE = (
    update(_PLACEMENTS)
    .where(
        _PLACEMENTS.c.sample_number == bindparam("sample"),
        _PLACEMENTS.c.representation == bindparam("kind"),
    )
    .values(shard_id=bindparam("shard"), offset=bindparam("start"), length=bindparam("size"))
)

log = structlog.get_logger()


class _Held(NamedTuple):
    """One who stays."""

    number: int
    offset: int
    length: int


class _Moved(Exception):
    """Somebody else has changed the shard meanwhile."""


def forget_in_shards(engine: Engine, store: ShardStore, keys: Collection[str]) -> int:
    """Take sessions, by their keys, out of all shards; returns how many those were.

    None of their samples may be given a place meanwhile. Raises OSError for the store.
    """
    num_shards = 0
    while shard_ids := _shards_of(engine, keys):
        for shard_id in shard_ids:
            _forget_in(engine, store, shard_id, keys)
        num_shards += len(shard_ids)
    return num_shards


def _shards_of(engine: Engine, keys: Collection[str]) -> Sequence[str]:
    query = (
        select(Placement.shard_id)
        .join(Sample, Sample.number == Placement.sample_number)
        .where(are_of(keys))
        .distinct()
        .order_by(Placement.shard_id)
    )
    with read(engine) as session:
        return session.scalars(query).all()


def _forget_in(engine: Engine, store: ShardStore, shard_id: str, keys: Collection[str]) -> None:
    with read(engine) as session:
        shard = session.get(Shard, shard_id)
        if shard is None:
            return
        held = _held(session, shard_id, keys)
    if held and shard.state == LIVE:
        try:
            _write_anew(engine, store, shard, held, keys)
            held = []
        except _Moved:
            return  # the next look finds it as it is then
        except (CorruptShardError, FileNotFoundError) as error:
            log.warning("shard_damaged", shard_id=shard_id, reason=str(error))
    if held:
        _give_up(engine, store, shard)
    store.remove(shard.path)
    with write(engine) as session:
        gone = select(Sample.number).where(are_of(keys))
        session.execute(
            delete(Placement).where(
                Placement.shard_id == shard_id, Placement.sample_number.in_(gone)
            )
        )
        if not held:
            session.execute(delete(Shard).where(Shard.shard_id == shard_id))
    log.info("shard_forgotten_in", shard_id=shard_id, num_kept=len(held))


def _held(session: Session, shard_id: str, keys: Collection[str]) -> list[_Held]:
    rows = session.execute(
        select(Placement.sample_number, Placement.offset, Placement.length)
        .join(Sample, Sample.number == Placement.sample_number)
        .where(Placement.shard_id == shard_id, Sample.session_key.not_in(keys))
        .order_by(Placement.offset)
    )
    return [_Held(*row) for row in rows]


def _write_anew(
    engine: Engine,
    store: ShardStore,
    shard: Shard,
    held: Sequence[_Held],
    keys: Collection[str],
) -> None:
    """Let those who stay lie in a new shard. Raises _Moved, CorruptShardError, OSError."""
    local = store.local(shard.path)
    verify(local, shard.checksum)
    with ShardWriter(store, shard.path.rsplit("/", 2)[0]) as writer:
        spans = [writer.copy(read_span(local, each.offset, each.length)) for each in held]
        written = writer.publish()
    with write(engine) as session:
        present = session.get(Shard, shard.shard_id, with_for_update=True)
        if present is None or present.state != LIVE:
            raise _Moved
        if _held(session, shard.shard_id, keys) != list(held):
            raise _Moved
        present.state = GONE
        _move(session, present, written, held, spans)


def _move(
    session: Session,
    shard: Shard,
    written: WrittenShard,
    held: Sequence[_Held],
    spans: Sequence[Span],
) -> None:
    kind = shard.representation
    session.add(
        Shard(**vars(written), representation=kind, created_at=shard.created_at, state=LIVE)
    )
    session.flush()
    session.execute(
        _MOVE,
        [
            {
                "sample": each.number,
                "kind": kind,
                "shard": written.shard_id,
                "start": span.offset,
                "size": span.length,
            }
            for each, span in zip(held, spans, strict=True)
        ],
    )


def _give_up(engine: Engine, store: ShardStore, shard: Shard) -> None:
    """Have what is left of a damaged shard made anew; the file goes whatever comes of that."""
    with write(engine) as session:
        quarantine(session, shard.shard_id, now=time.time())
    Repair(engine, store).mend(Finding("shard_quarantined", shard.shard_id, "forgotten in"))
    with write(engine) as session:
        session.get_one(Shard, shard.shard_id, with_for_update=True).state = GONE
