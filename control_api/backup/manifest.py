"""What a backup's folder holds: a manifest, written last, that names everything else.

manifest.json              this
index-TIME                 the database as of one moment: SQLite's file, or pg_dump's archive
log-TIME.db                the embedded event log
shards-TIME.txt            `CHECKSUM SIZE PATH` of each shard that the index names, blake3
shards/PATH, runs/PATH     the shards and the checkpoints themselves
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MANIFEST = "manifest.json"
SHARDS, RUNS = "shards", "runs"


class NotABackup(Exception):
    """A folder holds no backup, or not a whole one; the message says what to do."""


class CopiedFile(BaseModel):
    """A file beside the manifest."""

    model_config = ConfigDict(frozen=True)

    name: str
    num_bytes: int
    blake3: str


class Manifest(BaseModel):
    """One backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    created_at: float = Field(description="what was acknowledged before is in it")
    index: CopiedFile
    log: CopiedFile | None = Field(description="null where the log is on Kafka, which keeps it")
    shards: CopiedFile
    checkpoints: dict[str, str] = Field(description="manifest's blake3 by folder below runs")
    damaged: list[str] = Field(description="what was damaged where it came from, and is not here")


@dataclass(frozen=True, slots=True)
class ListedShard:
    """A shard as the index names it."""

    path: str
    num_bytes: int
    checksum: str

    def line(self) -> str:
        """The shard in the list."""
        return f"{self.checksum} {self.num_bytes} {self.path}\n"

    @classmethod
    def of(cls, line: str) -> Self:
        """A line of the list."""
        checksum, num_bytes, path = line.rstrip("\n").split(" ", 2)
        return cls(path, int(num_bytes), checksum)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup. Raises NotABackup."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise NotABackup(f"{folder} holds no {MANIFEST}; name a folder of `stovetop backup`") from (
            None
        )
    except ValidationError as error:
        raise NotABackup(f"{folder / MANIFEST} is damaged: {error.errors()[0]['msg']}") from error


def listed_shards(folder: Path, manifest: Manifest) -> Iterator[ListedShard]:
    """The shards of a backup."""
    with (folder / manifest.shards.name).open() as lines:
        for line in lines:
            yield ListedShard.of(line)
