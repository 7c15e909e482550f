"""Files against rows: what lies in the store and no row names, after its grace.

In: the store's list. Out: a finding for each file that nothing needs: what a writer left that was
killed between publishing and indexing, or what somebody put there. Decision: one hour of grace,
for a file comes first and its row a moment later.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

from sqlalchemy import Engine, select

from ingest.database import read
from ingest.integrity.finding import Finding, Seen
from ingest.shard_store import ShardStore, Stored
from ingest.tables import Shard

GRACE_S = 3_600.0
FILES_A_READ = 500


def check_files(engine: Engine, store: ShardStore, seen: Seen) -> Iterator[Finding]:
    """Look for a row of each file."""
    listed = store.listed()
    while some := list(islice(listed, FILES_A_READ)):
        seen["files"] += len(some)
        for stored in unknown(engine, some):
            detail = f"{stored.num_bytes} bytes that no row names"
            yield Finding("file_unknown", stored.path, detail)


def unknown(engine: Engine, files: Sequence[Stored]) -> list[Stored]:
    """Those that no row names, and that are older than the grace."""
    before = time.time() - GRACE_S
    old = [stored for stored in files if stored.modified_at < before]
    with read(engine) as session:
        paths = [stored.path for stored in old]
        named = set(session.scalars(select(Shard.path).where(Shard.path.in_(paths))))
    return [stored for stored in old if stored.path not in named]
