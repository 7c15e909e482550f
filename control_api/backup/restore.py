"""From a backup's folder to an installation where there is none: `stovetop restore`.

In: a backup, and settings of an empty data folder, database and store. Out: an installation that
goes on from where the backup was made. Guaranteed: every byte is compared with its checksum before
it counts; a restore that was interrupted is not taken for an installation: its mark stays, and
`stovetop up` refuses it.

What it changes: the installation gets a name of its own, so that shippers send again what came
after the backup (what is there already is a duplicate); browsers are signed out; a checkpoint that
was removed while the backup was made is listed no more; who is named to it as forgotten since is
forgotten here as well, before it counts as an installation.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from control_api.audit import local_caller, record
from control_api.backup.copying import Damaged, checksum_of, copy_bytes, copy_folder
from control_api.backup.manifest import (
    RUNS,
    SHARDS,
    CopiedFile,
    ListedShard,
    Manifest,
    NotABackup,
    listed_shards,
    read_manifest,
)
from control_api.folder_lock import RESTORING
from ingest.database import is_empty, load, open_engine, upgrade, write
from ingest.forgetting.forget import Buried, Forgetting
from ingest.log import LogUnavailable, open_log
from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from ingest.tables import ApiKey, Instance
from trainer.checkpoints.integrity import damage_of
from trainer.tables import Checkpoint


class NotEmpty(Exception):
    """Something is where a backup is to be restored to; the message names it and the fix."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back; `damaged` was not in the backup, for it was damaged before."""

    created_at: float
    num_shards: int
    num_checkpoints: int
    num_forgotten: int  # sessions
    damaged: list[str]


def restore(settings: Settings, folder: Path, forgotten: Sequence[Buried] = ()) -> Restored:
    """Make an installation from a backup, without whom was `forgotten` after it was made.

    Raises NotABackup, NotEmpty, copying.Damaged, ingest.database.DumpFailed, OSError.
    """
    manifest = read_manifest(folder)
    _check_copies(folder, manifest)
    store = open_store(settings)
    _check_empty(settings, store)
    if manifest.log is not None and settings.kafka is not None:
        raise NotABackup(
            f"{folder} holds the embedded event log with what was not consumed yet; restore "
            "without STOVETOP_KAFKA, let it be consumed, and set it then"
        )
    with _marked(settings.data):
        num_shards = _restore_shards(folder, manifest, store)
        for path, digest in manifest.checkpoints.items():
            copy_folder(folder / RUNS / path, settings.runs_path / path)
            if damage := damage_of(settings.runs_path / path, digest):
                raise Damaged(damage)
        if manifest.log is not None:
            copy_bytes(folder / manifest.log.name, settings.event_log_path, manifest.log.blake3)
        load(settings.resolved_database_url, folder / manifest.index.name)
        upgrade(settings)
        _settle(settings, manifest)
        num_forgotten = _forget_again(settings, store, forgotten) if forgotten else 0
    return Restored(
        manifest.created_at,
        num_shards,
        len(manifest.checkpoints),
        num_forgotten,
        manifest.damaged,
    )


def _forget_again(settings: Settings, store: ShardStore, forgotten: Sequence[Buried]) -> int:
    """Nobody comes back with a backup; how many sessions went."""
    engine = open_engine(settings.resolved_database_url)
    try:
        with open_log(settings) as event_log:
            return Forgetting(engine, store, event_log).forget_again(forgotten)["sessions"]
    except LogUnavailable as error:
        raise NotABackup(f"the event log {error}; restore again once it answers") from error
    finally:
        engine.dispose()


def _check_copies(folder: Path, manifest: Manifest) -> None:
    copies: list[CopiedFile | None] = [manifest.index, manifest.log, manifest.shards]
    for copied in copies:
        if copied is not None and checksum_of(folder / copied.name) != copied.blake3:
            raise NotABackup(f"{folder / copied.name} does not match its checksum")


def _check_empty(settings: Settings, store: ShardStore) -> None:
    if settings.data.exists() and any(settings.data.iterdir()):
        raise NotEmpty(f"{settings.data} is not empty; name a fresh folder with --data")
    if not is_empty(settings.resolved_database_url):
        raise NotEmpty("the database has tables; name an empty one in STOVETOP_DATABASE_URL")
    if (first := next(iter(store.listed()), None)) is not None:
        raise NotEmpty(f"the store of the shards holds {first.path}; name an empty one")


@contextmanager
def _marked(data: Path) -> Iterator[None]:
    data.mkdir(parents=True, exist_ok=True)
    (data / RESTORING).touch()
    yield
    (data / RESTORING).unlink()


def _restore_shards(folder: Path, manifest: Manifest, store: ShardStore) -> int:
    damaged = set(manifest.damaged)
    num_shards = 0
    for shard in listed_shards(folder, manifest):
        if shard.path not in damaged:
            _restore_shard(folder, shard, store)
            num_shards += 1
    return num_shards


def _restore_shard(folder: Path, shard: ListedShard, store: ShardStore) -> None:
    temporary = store.temporaries / f"{uuid4().hex}.tar"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        copy_bytes(folder / SHARDS / shard.path, temporary, shard.checksum)
        store.publish(temporary, shard.path)
    finally:
        temporary.unlink(missing_ok=True)


def _settle(settings: Settings, manifest: Manifest) -> None:
    """Let the rows fit what is there now."""
    engine = open_engine(settings.resolved_database_url)
    try:
        with write(engine) as session:
            session.execute(delete(Instance))
            is_signed_in = ApiKey.kind != "key", ApiKey.revoked_at.is_(None)
            session.execute(update(ApiKey).where(*is_signed_in).values(revoked_at=time.time()))
            _unlist_removed(session, set(manifest.checkpoints))
            record(session, local_caller(), "backup.restore", "all", created_at=manifest.created_at)
    finally:
        engine.dispose()


def _unlist_removed(session: Session, present: set[str]) -> None:
    for checkpoint in session.scalars(select(Checkpoint).where(Checkpoint.removed_at.is_(None))):
        if checkpoint.path not in present:
            checkpoint.removed_at = time.time()
