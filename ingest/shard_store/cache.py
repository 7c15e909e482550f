"""Local copies of shards, for any number of processes of one machine.

In: a name and who can fetch it. Out: a local file. Guaranteed: a copy is whole, for it comes by a
rename; beyond `max_bytes` the least recently used ones go, and who has one open keeps it. Decision:
what is there is counted anew whenever one process has added a twentieth of `max_bytes`, so that
between two counts the folder exceeds it by no more than that for each process.
"""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

_TEMPORARIES = "writing"
_COUNTED_EACH = 20


class ShardCache:
    """A folder of copies."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._num_uncounted_bytes = 0

    @property
    def temporaries(self) -> Path:
        """Where files are made that may be put in."""
        return self._folder / _TEMPORARIES

    def get(self, path: str, fetch: Callable[[Path], None]) -> Path:
        """The copy of a shard, fetched into an empty file where there is none.

        Raises what `fetch` raises.
        """
        copy = self._folder / path
        try:
            os.utime(copy)  # it was used
        except FileNotFoundError:
            self.temporaries.mkdir(parents=True, exist_ok=True)
            temporary = self.temporaries / f"{uuid4().hex}.tar"
            try:
                fetch(temporary)
                self.put(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return copy

    def put(self, temporary: Path, path: str) -> None:
        """Take over a finished file."""
        copy = self._folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        self._num_uncounted_bytes += temporary.stat().st_size
        temporary.replace(copy)
        if self._num_uncounted_bytes * _COUNTED_EACH >= self._max_bytes:
            self._shrink(but=copy)

    def drop(self, path: str) -> None:
        """Remove a copy, if there is one."""
        (self._folder / path).unlink(missing_ok=True)

    def _shrink(self, but: Path) -> None:
        self._num_uncounted_bytes = 0
        copies = self._copies()
        excess = sum(num_bytes for _, num_bytes, _ in copies) - self._max_bytes
        for _, num_bytes, copy in sorted(copies):
            if excess <= 0:
                return
            if copy != but:
                copy.unlink(missing_ok=True)
                excess -= num_bytes

    def _copies(self) -> list[tuple[float, int, Path]]:
        """When each was used, its size, and where it is."""
        found: list[tuple[float, int, Path]] = []
        for folder, _, names in os.walk(self._folder):
            if Path(folder) == self.temporaries:
                continue
            for name in names:
                path = Path(folder) / name
                try:
                    stat = path.stat()
                except FileNotFoundError:  # another process shrinks it, too
                    continue
                found.append((stat.st_mtime, stat.st_size, path))
        return found
