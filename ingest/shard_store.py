"""Where shards lie: a place that publishes a file whole, gives it back, lists and removes.

In: a finished temporary file and its name. Out: a local file with a shard's bytes, for whoever
reads. Guaranteed: what was published is durable and whole under its name, and never changes; a name
that is not there is FileNotFoundError, and a place that is away is another OSError.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ingest.settings import Settings

_TEMPORARIES = "writing"


@dataclass(frozen=True, slots=True)
class Stored:
    """A published file: its name, its size in bytes, and when it came, in seconds since 1970."""

    path: str
    num_bytes: int
    modified_at: float


class ShardStore(Protocol):
    """Shards by their names, such as `frames/ab/abcd.tar`; for any number of threads."""

    @property
    def temporaries(self) -> Path:
        """The local folder in which a writer writes what it then publishes."""

    def publish(self, temporary: Path, path: str) -> None:
        """Make a finished local file durable under its name; the temporary one is gone then."""

    def local(self, path: str) -> Path:
        """A local file with the bytes of a shard, to be opened soon.

        Raises FileNotFoundError where there is none.
        """

    def assert_reachable(self) -> None:
        """Raises OSError where nothing at all can be found at the moment."""

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""

    def listed(self) -> Iterator[Stored]:
        """What is published, in no order; what comes or goes meanwhile may be in it or not."""


class FolderStore:
    """Shards as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def temporaries(self) -> Path:
        """See `ShardStore`."""
        return self._folder / _TEMPORARIES

    def publish(self, temporary: Path, path: str) -> None:
        """See `ShardStore`; renamed within one file system."""
        target = self._folder / path
        _make_durable_folder(target.parent, self._folder)
        temporary.replace(target)
        _fsync_folder(target.parent)

    def local(self, path: str) -> Path:
        """See `ShardStore`; who opens it learns whether it is there."""
        return self._folder / path

    def assert_reachable(self) -> None:
        """See `ShardStore`."""
        if not self._folder.is_dir():
            raise FileNotFoundError(f"{self._folder}: the shards' folder is not there")

    def remove(self, path: str) -> None:
        """See `ShardStore`."""
        (self._folder / path).unlink(missing_ok=True)

    def listed(self) -> Iterator[Stored]:
        """See `ShardStore`."""
        for folder, _, names in os.walk(self._folder):
            if Path(folder) == self.temporaries:
                continue
            for name in names:
                path = Path(folder) / name
                try:
                    found = path.stat()
                except FileNotFoundError:  # removed meanwhile
                    continue
                relative = path.relative_to(self._folder).as_posix()
                yield Stored(relative, found.st_size, found.st_mtime)


def open_store(settings: Settings) -> ShardStore:
    """The installation's."""
    return FolderStore(settings.shards_path)


def _make_durable_folder(folder: Path, root: Path) -> None:
    """Create a folder so that it outlives a power cut: each new entry's parent is fsynced."""
    missing = [part for part in (folder, *folder.parents) if root in part.parents]
    for part in reversed(missing):
        if not part.exists():
            part.mkdir(exist_ok=True)
            _fsync_folder(part.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
