"""Shards, open for reading: what every reader of a stream does with the files of its samples.

In: a sample's place. Out: what is read there. Guaranteed: a shard's bytes are compared with its
checksum when it is first opened; one that is gone is looked up once more, for it may have been
replaced; what is damaged then is `ShardDamaged`, and what is no fault of the file's (no descriptors
left, the store away) is raised as it is.
"""

import errno
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, TypeVar

from ingest.shard_store import ShardStore
from ingest.shards import CorruptShardError, find_sound
from trainer.mix.stream import ShardDamaged

MAX_OPEN_SHARDS = 128
# Gone, unreadable, no such offset; any other error is not this shard's fault.
_OF_THE_FILE = (errno.ENOENT, errno.EIO, errno.EINVAL)


class Place(Protocol):
    """Where a sample lies, as far as files are concerned."""

    @property
    def number(self) -> int:
        """The sample's."""

    @property
    def shard_path(self) -> str:
        """The shard's name in the store."""

    @property
    def checksum(self) -> str:
        """blake3 of the whole file."""


P = TypeVar("P", bound=Place)
T = TypeVar("T")


class ShardFiles:
    """Open shards of a store; one thread's own. `close` it."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._descriptors: OrderedDict[str, int] = OrderedDict()  # the oldest use first
        self._verified: set[str] = set()
        self._is_any_removed = False

    def read(self, place: P, read: Callable[[int, P], T], find_again: Callable[[int], P]) -> T:
        """What `read` makes of the open file at a place, or at the one found again.

        `read` raises CorruptShardError where the bytes are not the sample's. Raises ShardDamaged.
        """
        try:
            return read(self._open(place), place)
        except (CorruptShardError, OSError) as error:
            self._assert_of_the_file(error)
            self._forget(place.shard_path)
        place = find_again(place.number)
        try:
            return read(self._open(place), place)
        except (CorruptShardError, OSError) as error:
            self._assert_of_the_file(error)
            self._forget(place.shard_path)
            raise ShardDamaged(place.shard_path, place.number, str(error)) from error

    def let_go_of_removed(self) -> None:
        """Close, before the next reading, what was removed and has its bytes as long as it is open.

        From any thread.
        """
        self._is_any_removed = True

    def close(self) -> None:
        """Close all of them."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _assert_of_the_file(self, error: CorruptShardError | OSError) -> None:
        is_of_the_file = isinstance(error, CorruptShardError) or error.errno in _OF_THE_FILE
        if not is_of_the_file:
            raise error
        self._store.assert_reachable()

    def _open(self, place: Place) -> int:
        if self._is_any_removed:
            self._is_any_removed = False
            self._close_removed()
        path = place.shard_path
        if path in self._descriptors:
            self._descriptors.move_to_end(path)
            return self._descriptors[path]
        if path in self._verified:
            local = self._store.local(path)
        else:
            local = find_sound(self._store, path, place.checksum)
            self._verified.add(path)
        if len(self._descriptors) == MAX_OPEN_SHARDS:
            os.close(self._descriptors.popitem(last=False)[1])
        self._descriptors[path] = os.open(local, os.O_RDONLY)
        return self._descriptors[path]

    def _close_removed(self) -> None:
        for path, descriptor in list(self._descriptors.items()):
            if os.fstat(descriptor).st_nlink == 0:
                self._forget(path)

    def _forget(self, path: str) -> None:
        self._verified.discard(path)
        if path in self._descriptors:
            os.close(self._descriptors.pop(path))
