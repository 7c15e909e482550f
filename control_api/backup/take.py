"""From an installation that works to a folder: `stovetop backup`.

In: settings and a folder, empty or with an earlier backup. Out: the folder's new manifest, and what
was damaged where it came from, which is not in it. Guaranteed: all that was acknowledged before the
backup began is in it, each event once; no writer waits for it; until the new manifest is there, the
earlier one and all that it names are, too.

The order is what makes it consistent. First the event log: what it lacks came later. Then the index
as of one moment: what it has beyond that log was consumed since, and its offsets say so. Then the
shards and checkpoints that the index names, which lay there before their rows and never change. One
that was removed since (merged into a larger one, forgotten, retired) is in no newer index either:
all is taken again, where by now almost nothing is left to be copied.
"""

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from control_api.backup.copying import Damaged, copy_file, copy_folder, described
from control_api.backup.manifest import (
    MANIFEST,
    RUNS,
    SHARDS,
    CopiedFile,
    ListedShard,
    Manifest,
    listed_shards,
)
from ingest.buffer import LIVE
from ingest.database import dump, open_engine, read
from ingest.durable import sync
from ingest.log.copying import copy_log, go_on_from
from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from ingest.tables import LogOffset, Shard
from trainer.checkpoints.integrity import damage_of
from trainer.tables import Checkpoint

MAX_TRIES = 5
ROWS_A_FETCH = 1_000


class BackupFailed(Exception):
    """No backup was made, an earlier one in the folder is as it was; the message says why."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """An installation at one moment, but for the files that its index names."""

    created_at: float
    index: CopiedFile
    log: CopiedFile | None
    shards: CopiedFile
    checkpoints: dict[str, str]  # digest by folder


class _Changed(Exception):
    """A file that the index names was removed since, for the index has changed."""


def back_up(settings: Settings, folder: Path) -> Manifest:
    """Make a backup of an installation.

    Raises BackupFailed, ingest.database.DumpFailed, OSError, sqlalchemy's OperationalError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    engine, store = open_engine(settings.resolved_database_url), open_store(settings)
    try:
        with _alone(folder):
            for _ in range(MAX_TRIES):
                snapshot = _take_snapshot(settings, engine, folder)
                try:
                    return _complete(settings, engine, store, folder, snapshot)
                except _Changed:
                    continue
    except sqlite3.Error as error:
        raise BackupFailed(f"the event log can't be copied: {error}") from error
    finally:
        engine.dispose()
    raise BackupFailed(f"shards were replaced {MAX_TRIES} times meanwhile; try again later")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BackupFailed(f"another backup into {folder} is under way; let it end") from None
    finally:
        os.close(descriptor)


def _take_snapshot(settings: Settings, engine: Engine, folder: Path) -> _Snapshot:
    created_at = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(created_at)) + f"-{time.time_ns() % 10**9}"
    index, shards = folder / f"index-{stamp}", folder / f"shards-{stamp}.txt"
    log = folder / f"log-{stamp}.db"
    is_embedded = settings.kafka is None and settings.event_log_path.exists()
    has_log = is_embedded and copy_log(settings.event_log_path, log)
    with read(engine) as session:
        _write_list(session, shards)
        rows = session.execute(
            select(Checkpoint.path, Checkpoint.digest).where(Checkpoint.removed_at.is_(None))
        )
        checkpoints = dict(rows.all())
        dump(session, index)
    if has_log:
        with read(engine) as session:
            go_on_from(log, session.scalar(select(func.max(LogOffset.next_offset))) or 0)
    return _Snapshot(
        created_at,
        described(index),
        described(log) if has_log else None,
        described(shards),
        checkpoints,
    )


def _write_list(session: Session, path: Path) -> None:
    query = select(Shard.path, Shard.num_bytes, Shard.checksum).where(Shard.state == LIVE)
    rows = session.execute(query.order_by(Shard.path).execution_options(yield_per=ROWS_A_FETCH))
    with path.open("w") as lines:
        lines.writelines(ListedShard(*row).line() for row in rows)


def _complete(
    settings: Settings, engine: Engine, store: ShardStore, folder: Path, snapshot: _Snapshot
) -> Manifest:
    """Copy what a snapshot names, and let the folder be this backup. Raises _Changed."""
    manifest = Manifest(
        created_at=snapshot.created_at,
        index=snapshot.index,
        log=snapshot.log,
        shards=snapshot.shards,
        checkpoints={},
        damaged=[],
    )
    damaged = [
        shard.path
        for shard in listed_shards(folder, manifest)
        if not _is_copied(engine, store, folder, shard)
    ]
    checkpoints = {}
    for path, digest in sorted(snapshot.checkpoints.items()):
        if _is_checkpoint_copied(settings.runs_path / path, folder / RUNS / path, digest):
            checkpoints[path] = digest
        elif _is_listed(engine, path):
            damaged.append(f"{RUNS}/{path}")
    manifest = manifest.model_copy(update={"checkpoints": checkpoints, "damaged": damaged})
    _write(folder, manifest)
    _prune(folder, manifest)
    return manifest


def _is_copied(engine: Engine, store: ShardStore, folder: Path, shard: ListedShard) -> bool:
    """Whether a shard is in the folder now. Raises _Changed where it is no more in the index."""
    target = folder / SHARDS / shard.path
    try:
        try:
            copy_file(store.local(shard.path), target, shard.checksum)
        except Damaged:
            store.drop_copy(shard.path)
            copy_file(store.local(shard.path), target, shard.checksum)
    except FileNotFoundError:
        is_named = Shard.path == shard.path, Shard.state == LIVE
        with read(engine) as session:
            if session.scalar(select(Shard.shard_id).where(*is_named)) is None:
                raise _Changed from None
        return False
    except Damaged:
        return False
    return True


def _is_checkpoint_copied(source: Path, target: Path, digest: str) -> bool:
    try:
        copy_folder(source, target)
    except FileNotFoundError:
        return False
    except shutil.Error:  # some of its files are gone
        return False
    if damage_of(target, digest) is None:
        return True
    shutil.rmtree(target)
    return False


def _is_listed(engine: Engine, path: str) -> bool:
    """Whether a checkpoint has not been removed since the snapshot."""
    listed = select(Checkpoint.path).where(Checkpoint.path == path, Checkpoint.removed_at.is_(None))
    with read(engine) as session:
        return session.scalar(listed) is not None


def _write(folder: Path, manifest: Manifest) -> None:
    temporary = folder / f"{MANIFEST}.new"
    temporary.write_text(manifest.model_dump_json(indent=2))
    sync(temporary)
    temporary.replace(folder / MANIFEST)
    sync(folder)


def _prune(folder: Path, manifest: Manifest) -> None:
    """Remove what only earlier backups named, and what a killed one left."""
    named = {file.name for file in (manifest.index, manifest.log, manifest.shards) if file}
    for pattern in ("index-*", "log-*", "shards-*"):
        for path in folder.glob(pattern):
            if path.name not in named:
                path.unlink()
    shards = {shard.path for shard in listed_shards(folder, manifest)} - set(manifest.damaged)
    for path in (folder / SHARDS).rglob("*"):
        if path.is_file() and path.relative_to(folder / SHARDS).as_posix() not in shards:
            path.unlink()
    kept = {folder / RUNS / path for path in manifest.checkpoints}
    for manifest_path in list((folder / RUNS).rglob(MANIFEST)):
        if manifest_path.parent not in kept:
            shutil.rmtree(manifest_path.parent)
