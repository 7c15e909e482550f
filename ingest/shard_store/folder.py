"""Shards as files of a folder, renamed into it, and fsynced with it."""

import os
from collections.abc import Iterator
from pathlib import Path

from ingest.durable import sync
from ingest.shard_store.store import Stored

_TEMPORARIES = "writing"


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
        sync(target.parent)

    def local(self, path: str) -> Path:
        """See `ShardStore`; who opens it learns whether it is there."""
        return self._folder / path

    def drop_copy(self, path: str) -> None:
        """See `ShardStore`; the file is the shard itself."""

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


def _make_durable_folder(folder: Path, root: Path) -> None:
    """Create a folder so that it outlives a power cut: each new entry's parent is fsynced."""
    missing = [part for part in (folder, *folder.parents) if root in part.parents]
    for part in reversed(missing):
        if not part.exists():
            part.mkdir(exist_ok=True)
            sync(part.parent)
