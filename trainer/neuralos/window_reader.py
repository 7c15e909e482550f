"""Reads context windows: sample numbers in, the arrays of a training batch out.

The arrays are those of `windows.py` (latents, actions, num_valid, starts_episode, sample_numbers),
right-aligned, zero before the first record. A window is one contiguous read of its episode's
records straight into the batch's buffer, which is viewed, never parsed or copied, and handed over.

Guaranteed: a shard's bytes are compared with its checksum when it is first opened, and of every
window the first and the last record's names with the sample's, so neither a flipped bit nor a wrong
offset becomes a training sample. A shard that is gone is looked up once more, for it may have been
replaced; what is damaged then is `ShardDamaged`.

The decision: the whole checksum at first opening costs 0.5 ms a megabyte, once; the names cost 2 us
a window, always. A hash of each record would cost 25 us a window of 24, a tenth of the reading.
"""

import errno
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from ingest.shards import CorruptShardError, verify
from trainer.mix.permutation import IntArray
from trainer.mix.stream import ShardDamaged
from trainer.neuralos.places import Window, WindowPlaces
from trainer.neuralos.records import LATENT_SHAPE, record_type

LENGTH = 24
MAX_OPEN_SHARDS = 128
# Gone, unreadable, no such offset; any other error (no descriptors left) is not this shard's fault.
_OF_THE_FILE = (errno.ENOENT, errno.EIO, errno.EINVAL)


class WindowReader:
    """A stream's reader (`stream.Reader`) of windows of up to `length` records; `close` it."""

    def __init__(
        self,
        engine: Engine,
        shards_path: Path,
        representation: str,
        *,
        length: int = LENGTH,
        latent_shape: tuple[int, ...] = LATENT_SHAPE,
    ) -> None:
        self._shards_path = shards_path
        self._length = length
        self._record = record_type(latent_shape)
        self._places = WindowPlaces(
            engine, representation, length=length, record_bytes=self._record.itemsize
        )
        self._files: OrderedDict[str, int] = OrderedDict()  # descriptors, the oldest use first
        self._verified: set[str] = set()

    def prepare(self, numbers: IntArray) -> None:
        """Look up where these samples' windows lie."""
        self._places.add(numbers)

    def read(self, numbers: IntArray) -> dict[str, NDArray[Any]]:
        """The windows of samples, in their order, B of them.

        Raises ShardDamaged, or ValueError for a sample without a place in the representation.
        """
        windows = self._places.find(numbers)
        row_bytes = self._length * self._record.itemsize
        buffer = np.empty((len(windows), row_bytes), dtype=np.uint8)
        for row, window in zip(buffer, windows, strict=True):
            num_bytes = window.num_records * self._record.itemsize
            row[: row_bytes - num_bytes] = 0
            self._read_window(window, row[row_bytes - num_bytes :].data)
        records = buffer.view(self._record)
        return {
            "latents": records["latent"],
            "actions": records["action"],
            "num_valid": np.array([window.num_records for window in windows]),
            "starts_episode": np.array([window.starts_episode for window in windows]),
            "sample_numbers": numbers,
        }

    def close(self) -> None:
        """Close the shards."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _read_window(self, window: Window, into: memoryview) -> None:
        try:
            self._read_records(window, into)
            return
        except (CorruptShardError, OSError) as error:
            self._assert_of_the_file(error)
            self._forget(window.shard_path)
        window = self._places.find_again(window.number)
        try:
            self._read_records(window, into)
        except (CorruptShardError, OSError) as error:
            self._assert_of_the_file(error)
            self._forget(window.shard_path)
            raise ShardDamaged(window.shard_path, window.number, str(error)) from error

    def _assert_of_the_file(self, error: CorruptShardError | OSError) -> None:
        is_of_the_file = isinstance(error, CorruptShardError) or error.errno in _OF_THE_FILE
        if not is_of_the_file or not self._shards_path.is_dir():
            raise error

    def _read_records(self, window: Window, into: memoryview) -> None:
        num_bytes = os.preadv(self._open(window), [into], window.offset)
        if num_bytes != len(into):
            raise CorruptShardError(
                f"{num_bytes} bytes at {window.offset}, {len(into)} were written"
            )
        last = len(into) - self._record.itemsize
        for key, start in ((window.first_key, 0), (window.last_key, last)):
            name = f"{key}.".encode()
            found = bytes(into[start : start + len(name)])
            if found != name:
                raise CorruptShardError(
                    f"at {window.offset + start} is {found!r}, not the record of {key}"
                )

    def _open(self, window: Window) -> int:
        path = window.shard_path
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        if path not in self._verified:
            verify(self._shards_path / path, window.checksum)
            self._verified.add(path)
        if len(self._files) == MAX_OPEN_SHARDS:
            os.close(self._files.popitem(last=False)[1])
        self._files[path] = os.open(self._shards_path / path, os.O_RDONLY)
        return self._files[path]

    def _forget(self, path: str) -> None:
        self._verified.discard(path)
        if path in self._files:
            os.close(self._files.pop(path))
