"""The stream: drawn samples as arrays, read ahead of the step and yet never ahead of a command.

A sampler and a reader enter; batches leave, in draw order. One thread draws and reads `depth`
batches ahead. What is read ahead is not consumed: before a new mix or an adoption, and before the
state is told, the stream takes those draws back. So the very next batch obeys, no sample is lost or
repeated by it, and the state is that of the last batch handed out. A batch that can't be read is
taken back as well and its error raised where it would have been handed out.

The decision: depth 2. A command throws at most two reads away, about 10 ms of work for a thread
that has nothing else to do, and a step of 20 ms never waits for a batch of 64 windows.
"""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from trainer.mix.cohorts import SliceChange
from trainer.mix.permutation import IntArray
from trainer.mix.sampler import Draw, MixSampler, MixStatus
from trainer.mix.slice_sampler import SlicePolicy

Arrays = Mapping[str, NDArray[Any]]
EVERYTHING = slice(None)


class ShardDamaged(Exception):
    """A shard can't give a sample that is placed in it; quarantine it, adopt, and go on."""

    def __init__(self, shard_path: str, sample_number: int, reason: str) -> None:
        super().__init__(f"sample {sample_number} in {shard_path}: {reason}")
        self.shard_path = shard_path
        self.sample_number = sample_number
        self.reason = reason


class SamplesForgotten(ValueError):
    """Drawn samples are gone, for who sent them is forgotten; adopt, and go on."""


class Reader(Protocol):
    """Turns sample numbers into the arrays of a batch; both calls may come from any thread."""

    def prepare(self, numbers: IntArray) -> None:
        """Find out where these samples lie, so that reading them is quick.

        Those that are forgotten lie nowhere.
        """

    def read(self, numbers: IntArray) -> Arrays:
        """The samples' arrays in that order, its own to keep.

        Raises ShardDamaged or SamplesForgotten.
        """

    def close(self) -> None:
        """Let go of files."""


class Adoption(Protocol):
    """What the stream wants of an adoption (`adopt.AdoptionPlan` has it)."""

    @property
    def number(self) -> int:
        """Its number in the run."""

    @property
    def changes(self) -> Mapping[str, SliceChange]:
        """What it does to each slice."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch: sample numbers int64 (B,) in draw order, and the share's arrays; yours to keep."""

    numbers: IntArray
    arrays: Arrays


class _Slot:
    """A batch read ahead."""

    def __init__(self) -> None:
        self.draw: Draw | None = None
        self.arrays: Future[Arrays]


class Stream:
    """Batches of `batch_size` samples, `depth` of them read ahead; `close` it.

    Of each batch only the `share` is read; where several processes train, each draws all of it.
    All calls belong to the thread that trains, apart from `prepare`.
    """

    def __init__(
        self,
        sampler: MixSampler,
        reader: Reader,
        batch_size: int,
        depth: int = 2,
        *,
        share: slice = EVERYTHING,
    ) -> None:
        self._sampler = sampler
        self._reader = reader
        self._batch_size = batch_size
        self._depth = depth
        self._share = share
        self._mix = sampler.status
        self._ahead: deque[_Slot] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stream")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_shared(self) -> bool:
        """Whether others read the rest of each batch."""
        return self._share != EVERYTHING

    @property
    def mix(self) -> MixStatus:
        """Wanted and actual shares and who starved, as of the last batch handed out."""
        return self._mix

    def next_batch(self) -> Batch:
        """The next batch; waits for it.

        Raises NothingToDraw or what the reader raises; nothing is consumed then, and
        the next call tries the same samples again.
        """
        self._read_ahead()
        slot = self._ahead[0]
        error = slot.arrays.exception()
        if error is not None:
            self._rewind()
            raise error
        self._ahead.popleft()
        self._read_ahead()
        assert slot.draw is not None
        self._mix = slot.draw.status
        return Batch(slot.draw.numbers, slot.arrays.result())

    def prepare(self, adoption: Adoption) -> None:
        """Find out where an adoption's samples lie, ahead of its boundary; from any thread."""
        self._reader.prepare(_added(adoption.changes))

    def adopt(self, adoption: Adoption) -> None:
        """Take over an adoption from the next batch on.

        Raises ValueError where its number does not follow the last one.
        """
        self.prepare(adoption)
        self._rewind()
        self._sampler.adopt(adoption.number, adoption.changes)

    def set_shares(
        self, shares: Mapping[str, float], policies: Mapping[str, SlicePolicy] | None = None
    ) -> None:
        """A new mix from the next batch on.

        Raises ValueError naming a share that is none; the mix before stays in force then.
        """
        self._rewind()
        self._sampler.set_shares(shares, policies)
        self._mix = self._sampler.status

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch handed out, JSON-able."""
        self._rewind()
        return self._sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], members: Mapping[str, SliceChange]) -> None:
        """Continue where `state_dict` was taken; `members` as its adoptions left the slices."""
        self._rewind()
        self._reader.prepare(_added(members))
        self._sampler = MixSampler.from_state(state, members)
        self._mix = self._sampler.status

    def close(self) -> None:
        """Join the thread and let go of files."""
        self._rewind()
        self._thread.shutdown()
        self._reader.close()

    def _read_ahead(self) -> None:
        while len(self._ahead) < self._depth:
            slot = _Slot()
            slot.arrays = self._thread.submit(self._fill, slot)
            self._ahead.append(slot)

    def _fill(self, slot: _Slot) -> Arrays:
        slot.draw = self._sampler.draw(self._batch_size)
        return self._reader.read(slot.draw.numbers[self._share])

    def _rewind(self) -> None:
        """Take back what was drawn and not handed out; the thread is idle then."""
        for slot in self._ahead:
            slot.arrays.cancel()
        wait([slot.arrays for slot in self._ahead])
        for slot in reversed(self._ahead):
            if slot.draw is not None:
                self._sampler.undo(slot.draw)
        self._ahead.clear()


def _added(changes: Mapping[str, SliceChange]) -> IntArray:
    """The numbers that join any slice, sorted, each once."""
    parts = [change.added for change in changes.values()]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
