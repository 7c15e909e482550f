"""An export: the buffer as others read it, a WebDataset folder with its metadata in Parquet.

In: an installation as of one revision. Out: a folder of `samples-000000.tar` ..., which the stock
webdataset library opens, and `samples.parquet`: a row a sample, with its tar and its lineage.
Guaranteed: the folder appears whole or not at all; every shard's bytes are compared with their
checksum before they are copied; whatever comes in meanwhile, it is one revision's. What is retired,
forgotten or of a source in quarantine is not in it, nor are latents, which an encoder makes again.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyarrow import parquet
from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.buffer import DOCUMENT, FRAME, latest_revision, sample_key
from ingest.durable import sync
from ingest.shard_store import ShardStore
from ingest.shards import BLOCK, CorruptShardError, find_sound, read_span
from ingest.slices import exported
from ingest.tables import EventRow, Placement, Sample, SessionRow, Shard

REPRESENTATIONS = (FRAME, DOCUMENT)
SAMPLES_PER_TAR = 4_096
TAR_BYTES = 256 << 20
PAGE = 1_024  # rows read at a time, and a row group of the Parquet file

_Row = Any  # as `_pages` selects it

_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "tar": pa.string(),
        "number": pa.int64(),
        "representation": pa.string(),
        "source": pa.string(),
        "session_id": pa.string(),
        "user_id": pa.string(),
        "split": pa.string(),
        "timestamp": pa.float64(),
        "environment": pa.string(),
        "tasks": pa.list_(pa.string()),
        "changes": pa.list_(pa.string()),
        "ticks_since_change": pa.int64(),
        "is_auto": pa.bool_(),
        "episode_id": pa.string(),
        "episode_version": pa.int64(),
        "position": pa.int64(),
        "event_id": pa.string(),
        "model": pa.string(),
        "added_revision": pa.int64(),
    }
)


class ExportFailed(Exception):
    """Nothing was exported; the message says why and what to do."""


@dataclass(frozen=True)
class Exported:
    """What an export holds."""

    revision: int
    num_samples: int
    num_tars: int


def export(
    session: Session,
    store: ShardStore,
    folder: Path,
    *,
    slice_name: str | None = None,
    revision: int | None = None,
) -> Exported:
    """Write a folder that is not there yet, or empty; `session` reads one snapshot.

    Raises ExportFailed, ingest.slices.SliceError, or OSError where there is no room.
    """
    newest = latest_revision(session)
    revision = newest if revision is None else revision
    if not 0 <= revision <= newest:
        raise ExportFailed(f"revision: {revision} is not from 0 to {newest}, the newest")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ExportFailed(f"{folder} is not empty; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid4().hex}")
    unfinished.mkdir()
    try:
        done = _fill(unfinished, _pages(session, slice_name, revision), store)
        for path in [*unfinished.iterdir(), unfinished]:
            sync(path)
        unfinished.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(revision, *done)


def _pages(session: Session, name: str | None, revision: int) -> Iterator[Sequence[_Row]]:
    """The samples of the revision by number, with all that their rows and files need."""
    after = 0
    query = (
        select(
            Sample,
            Placement.representation,
            Placement.offset,
            Placement.length,
            Shard.path,
            Shard.checksum,
            SessionRow.session_id,
            EventRow.event_id,
            EventRow.model,
        )
        .join(Placement, Placement.sample_number == Sample.number)
        .join(Shard, Shard.shard_id == Placement.shard_id)
        .join(SessionRow, SessionRow.session_key == Sample.session_key)
        .join(EventRow, EventRow.number == Sample.event_number)
        .where(Placement.representation.in_(REPRESENTATIONS), exported(session, name, revision))
        .order_by(Sample.number)
        .limit(PAGE)
    )
    while page := session.execute(query.where(Sample.number > after)).all():
        yield page
        after = page[-1].Sample.number
        session.expunge_all()


def _fill(folder: Path, pages: Iterator[Sequence[_Row]], store: ShardStore) -> tuple[int, int]:
    """Write tars and the Parquet file; returns how many samples and tars there are."""
    num_samples = 0
    with ExitStack() as stack:
        tars = stack.enter_context(_Tars(folder))
        table = stack.enter_context(parquet.ParquetWriter(folder / "samples.parquet", _SCHEMA))
        shards = _Shards(store)
        for page in pages:
            rows = [_described(row, tars.add(shards.read(row))) for row in page]
            table.write_table(pa.Table.from_pylist(rows, _SCHEMA))
            num_samples += len(rows)
        return num_samples, tars.count


def _described(row: _Row, tar: str) -> dict[str, object]:
    sample = row.Sample
    named = {name: getattr(sample, name, None) for name in _SCHEMA.names}
    return named | {
        "key": sample_key(sample.episode_id, sample.episode_version, sample.position),
        "tar": tar,
        "representation": row.representation,
        "session_id": row.session_id,
        "event_id": row.event_id,
        "model": row.model,
        "tasks": sample.tasks.split(),
        "changes": sample.changes.split(),
    }


class _Shards:
    """Reads samples out of shards, each compared with its checksum before the first of them."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._sound: set[str] = set()

    def read(self, row: _Row) -> bytes:
        try:
            if row.path in self._sound:
                local = self._store.local(row.path)
            else:
                local = find_sound(self._store, row.path, row.checksum)
                self._sound.add(row.path)
            return read_span(local, row.offset, row.length)
        except FileNotFoundError as error:
            raise ExportFailed(
                f"shard {row.path} was removed; export again, and if it stays so run "
                "`stovetop verify`"
            ) from error
        except CorruptShardError as error:
            raise ExportFailed(f"{error}; run `stovetop verify --repair`") from error


class _Tars:
    """Tars of bounded size, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._name = ""
        self._num_samples = self._num_bytes = self.count = 0

    def __enter__(self) -> "_Tars":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._finish()

    def add(self, sample: bytes) -> str:
        """Append a sample as a shard holds it; returns the tar's name."""
        if self._num_samples in (0, SAMPLES_PER_TAR) or self._num_bytes > TAR_BYTES:
            self._finish()
            self._name = f"samples-{self.count:06}.tar"
            self._file = self._stack.enter_context((self._folder / self._name).open("xb"))
            self.count += 1
            self._num_samples = self._num_bytes = 0
        self._file.write(sample)
        self._num_samples += 1
        self._num_bytes += len(sample)
        return self._name

    def _finish(self) -> None:
        if self.count:
            self._file.write(bytes(2 * BLOCK))
        self._stack.close()
