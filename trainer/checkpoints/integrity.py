"""The listed checkpoints against their files, without torch: a manifest, and the seals in it.

In: the rows of checkpoints and the folder of the runs. Out: a finding for each whose files are not
what was saved. Guaranteed: one that was removed while it was read is none. Nothing is mended here:
a checkpoint can't be made anew, and what a run may go back to is for its people to decide.
"""

from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, select

from ingest.database import read
from ingest.integrity.finding import Finding, Seen
from trainer.checkpoints.seals import FileSeal, read_sealed
from trainer.tables import Checkpoint

MANIFEST = "manifest.json"


class SealedFiles(BaseModel):
    """Of a manifest (`folder.Manifest`) what a check of the files needs."""

    model_config = ConfigDict(extra="ignore")

    files: dict[str, FileSeal]


def check_checkpoints(engine: Engine, runs_path: Path, seen: Seen) -> Iterator[Finding]:
    """Check every checkpoint that is listed."""
    listed = select(Checkpoint).where(Checkpoint.removed_at.is_(None))
    with read(engine) as session:
        checkpoints = session.scalars(listed.order_by(Checkpoint.created_at)).all()
    for checkpoint in checkpoints:
        seen["checkpoints"] += 1
        damage = damage_of(runs_path / checkpoint.path, checkpoint.digest)
        if damage and _is_listed(engine, checkpoint):
            yield Finding("checkpoint_damaged", checkpoint.checkpoint_id, damage)


def damage_of(folder: Path, digest: str) -> str | None:
    """What is wrong with a checkpoint's files; `digest` is its manifest's blake3."""
    try:
        data = (folder / MANIFEST).read_bytes()
        if blake3(data).hexdigest() != digest:
            return f"{folder / MANIFEST} is not the one that was registered"
        for name, seal in SealedFiles.model_validate_json(data).files.items():
            if read_sealed(folder / name, {}) != seal:
                return f"{folder / name} does not match its checksum"
    except OSError as error:
        return f"{folder} can't be read: {error}"
    return None


def _is_listed(engine: Engine, checkpoint: Checkpoint) -> bool:
    with read(engine) as session:
        now = session.get(Checkpoint, checkpoint.checkpoint_id)
        return now is not None and now.removed_at is None
