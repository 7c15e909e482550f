"""Rows of shards against their files: the checksum of each, and every byte range of its samples.

In: the index and the store. Out: a finding for each shard whose file is gone or not what was
written, for each byte range that is not its sample's, and for each shard that is set apart.
Guaranteed: a finding was so at one moment: a row that changed while its file was read is looked at
again. Decision: a file is read once, 1 MiB at a time; of a byte range only the headers are read
after that, for the checksum has vouched for the rest.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing

from sqlalchemy import Engine, select

from ingest.buffer import GONE, QUARANTINED, sample_key
from ingest.database import read
from ingest.integrity.finding import Finding, Seen
from ingest.shard_store import ShardStore
from ingest.shards import CorruptShardError, member_names, verify
from ingest.tables import Placement, Sample, Shard

SHARDS_A_READ = 200
PLACES_A_FETCH = 1_000


def check_shards(engine: Engine, store: ShardStore, seen: Seen) -> Iterator[Finding]:
    """Check every shard that the index names.

    Raises OSError where the whole store is away.
    """
    last = ""
    while shards := _shards_after(engine, last):
        for shard in shards:
            seen["shards"] += 1
            finding = _check(engine, store, shard, seen)
            if finding is not None and _is_same(engine, shard):
                yield finding
        last = shards[-1].shard_id


def _shards_after(engine: Engine, shard_id: str) -> Sequence[Shard]:
    query = select(Shard).where(Shard.shard_id > shard_id, Shard.state != GONE)
    with read(engine) as session:
        return session.scalars(query.order_by(Shard.shard_id).limit(SHARDS_A_READ)).all()


def _check(engine: Engine, store: ShardStore, shard: Shard, seen: Seen) -> Finding | None:
    damage = _damage(store, shard)
    wrong = None if damage else _wrong_place(engine, store, shard, seen)
    if shard.state == QUARANTINED:
        reason = damage or wrong
        if reason is None:
            detail = f"{shard.path} is set apart, and as it was written"
            return Finding("shard_sound_again", shard.shard_id, detail)
        return Finding("shard_quarantined", shard.shard_id, f"{shard.path} is set apart: {reason}")
    if damage:
        return Finding("shard_damaged", shard.shard_id, f"{shard.path}: {damage}")
    return Finding("place_wrong", shard.shard_id, f"{shard.path}: {wrong}") if wrong else None


def _damage(store: ShardStore, shard: Shard) -> str | None:
    """What is wrong with a shard's file as a whole."""
    store.drop_copy(shard.path)  # what is stored counts, and not what was read of it once
    try:
        verify(store.local(shard.path), shard.checksum)
    except FileNotFoundError:
        store.assert_reachable()
        return "the file is gone"
    except CorruptShardError as error:
        return f"damaged: {error}"
    except OSError as error:
        store.assert_reachable()
        return f"can't be read: {error}"
    return None


def _wrong_place(engine: Engine, store: ShardStore, shard: Shard, seen: Seen) -> str | None:
    """The first byte range of a sound file that is not its sample's."""
    query = (
        select(
            Placement.offset,
            Placement.length,
            Sample.episode_id,
            Sample.episode_version,
            Sample.position,
        )
        .join(Sample, Sample.number == Placement.sample_number)
        .where(Placement.shard_id == shard.shard_id)
        .execution_options(yield_per=PLACES_A_FETCH)
    )
    try:
        file = store.local(shard.path).open("rb", buffering=0)
    except FileNotFoundError:
        return "the file is gone"
    with file, read(engine) as session, closing(session.execute(query)) as rows:
        for offset, length, episode_id, version, position in rows:
            seen["places"] += 1
            key = sample_key(episode_id, version, position)
            try:
                names = member_names(file.fileno(), offset, length)
            except CorruptShardError as error:
                return f"at {offset} is not {key}: {error}"
            if {name.partition(".")[0] for name in names} != {key}:
                return f"at {offset} is {names[:1]}, not {key}"
    return None


def _is_same(engine: Engine, shard: Shard) -> bool:
    """Whether the row is still what the file was compared with."""
    with read(engine) as session:
        now = session.get(Shard, shard.shard_id)
        return now is not None and (now.state, now.path) == (shard.state, shard.path)
