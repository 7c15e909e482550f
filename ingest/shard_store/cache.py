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

from ingest.shard_store.folder import FolderStore

_COUNTED_EACH = 20


class ShardCache:
    """A folder of copies."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._copies = FolderStore(folder)
        self._max_bytes = max_bytes
        self._num_uncounted_bytes = 0

    @property
    def temporaries(self) -> Path:
        """Where files are made that may be put in."""
        return self._copies.temporaries

    def get(self, path: str, fetch: Callable[[Path], None]) -> Path:
        """The copy of a shard, fetched into an empty file where there is none.

        Raises what `fetch` raises.
        """
        copy = self._copies.local(path)
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
        copy = self._copies.local(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        self._num_uncounted_bytes += temporary.stat().st_size
        temporary.replace(copy)
        if self._num_uncounted_bytes * _COUNTED_EACH >= self._max_bytes:
            self._shrink(but=path)

    def drop(self, path: str) -> None:
        """Remove a copy, if there is one."""
        self._copies.remove(path)

    def _shrink(self, but: str) -> None:
        self._num_uncounted_bytes = 0
        copies = list(self._copies.listed())
        excess = sum(copy.num_bytes for copy in copies) - self._max_bytes
        for copy in sorted(copies, key=lambda copy: copy.modified_at):  # the oldest use first
            if excess <= 0:
                return
            if copy.path != but:
                self._copies.remove(copy.path)
                excess -= copy.num_bytes
