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

import os
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from ingest.shard_store import ShardStore
from ingest.shards import CorruptShardError
from trainer.mix.forgotten import ForgottenNumbers
from trainer.mix.permutation import IntArray
from trainer.mix.shard_files import ShardFiles
from trainer.neuralos.places import Window, WindowPlaces
from trainer.neuralos.records import LATENT_SHAPE, record_type

LENGTH = 24


class WindowReader:
    """A stream's reader (`stream.Reader`) of windows of up to `length` records; `close` it."""

    def __init__(
        self,
        engine: Engine,
        store: ShardStore,
        representation: str,
        *,
        length: int = LENGTH,
        latent_shape: tuple[int, ...] = LATENT_SHAPE,
    ) -> None:
        self._length = length
        self._record = record_type(latent_shape)
        self._places = WindowPlaces(
            engine, representation, length=length, record_bytes=self._record.itemsize
        )
        self._files = ShardFiles(store)
        self._forgotten = ForgottenNumbers(engine)

    def prepare(self, numbers: IntArray) -> None:
        """Look up where these samples' windows lie."""
        if gone := self._forgotten.news():
            self._places.drop(np.array(sorted(gone)))
            self._files.let_go_of_removed()
        self._places.add(numbers)

    def read(self, numbers: IntArray) -> dict[str, NDArray[Any]]:
        """The windows of samples, in their order, B of them.

        Raises ShardDamaged, SamplesForgotten, or ValueError for a sample without a place in the
        representation.
        """
        windows = self._places.find(numbers)
        row_bytes = self._length * self._record.itemsize
        buffer = np.empty((len(windows), row_bytes), dtype=np.uint8)
        for row, window in zip(buffer, windows, strict=True):
            num_bytes = window.num_records * self._record.itemsize
            row[: row_bytes - num_bytes] = 0
            into = row[row_bytes - num_bytes :].data
            self._files.read(window, partial(self._read_records, into), self._places.find_again)
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
        self._files.close()

    def _read_records(self, into: memoryview, descriptor: int, window: Window) -> None:
        num_bytes = os.preadv(descriptor, [into], window.offset)
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
