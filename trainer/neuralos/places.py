"""Where the windows of adopted samples lie: shard, offset, position in the episode.

Sample numbers enter once, when a run adopts them; their windows leave without SQL, a batch at a
time. The table is replaced as a whole when it grows, so one thread may look up while another adds.
The decision: all of it in memory, 28 bytes a sample, and reads of the database of 1,000 rows each,
so that none takes longer than 20 ms.
"""

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from ingest.buffer import sample_key
from ingest.database import read
from ingest.forgetting.tombstones import forgotten_samples
from ingest.tables import Episode, Placement, Sample, Shard
from trainer.mix.permutation import IntArray
from trainer.mix.stream import SamplesForgotten

ROWS_A_READ = 1_000

_PLACE = np.dtype(
    [("offset", "i8"), ("position", "i4"), ("shard", "i4"), ("episode", "i4")]
)  # shard and episode are indices of the lists beside the table


@dataclass(frozen=True)
class Window:
    """A sample and the records before it: `num_records` in a row, the first at `offset`.

    `starts_episode` says that the first is the episode's frame 0 with nothing unrecorded before.
    """

    number: int
    shard_path: str
    checksum: str
    offset: int
    num_records: int
    starts_episode: bool
    first_key: str
    last_key: str


@dataclass(frozen=True, eq=False)
class _Table:
    """Sample numbers in order, and their places."""

    numbers: IntArray
    places: NDArray[np.void]

    def lacks(self, numbers: IntArray) -> NDArray[np.bool_]:
        """Which of these numbers are not in it."""
        if not self.numbers.size:
            return np.ones(numbers.size, dtype=np.bool_)
        at = np.minimum(np.searchsorted(self.numbers, numbers), self.numbers.size - 1)
        is_lacking: NDArray[np.bool_] = self.numbers[at] != numbers
        return is_lacking


class WindowPlaces:
    """Places of windows of up to `length` records of `record_bytes` in one representation."""

    def __init__(
        self, engine: Engine, representation: str, *, length: int, record_bytes: int
    ) -> None:
        self._engine = engine
        self._representation = representation
        self._length = length
        self._record_bytes = record_bytes
        self._growing = threading.Lock()
        self._table = _Table(np.empty(0, dtype=np.int64), np.empty(0, dtype=_PLACE))
        self._shards: list[tuple[str, str]] = []  # path and checksum
        self._shard_indices: dict[str, int] = {}
        self._episodes: list[tuple[str, int, int]] = []  # id, version, unrecorded actions
        self._episode_indices: dict[tuple[str, int, int], int] = {}

    def add(self, numbers: IntArray) -> None:
        """Look these samples up, those that are not known yet; the forgotten are nowhere.

        Raises ValueError naming a sample that has no place in the representation.
        """
        with self._growing:
            self._load(np.setdiff1d(numbers, self._table.numbers))

    def drop(self, numbers: IntArray) -> None:
        """Remember these no more."""
        with self._growing:
            kept = ~np.isin(self._table.numbers, numbers)
            self._table = _Table(self._table.numbers[kept], self._table.places[kept])

    def find(self, numbers: IntArray) -> list[Window]:
        """The windows of samples, in their order.

        Raises SamplesForgotten, or ValueError as `add` does.
        """
        table = self._table
        if table.lacks(numbers).any():
            self.add(numbers)
            table = self._table
            if (is_lacking := table.lacks(numbers)).any():
                raise SamplesForgotten(f"sample {numbers[is_lacking][0]} is forgotten")
        at = np.searchsorted(table.numbers, numbers)
        places = table.places[at].tolist()
        return [self._window(n, *place) for n, place in zip(numbers.tolist(), places, strict=True)]

    def find_again(self, number: int) -> Window:
        """A sample's window from the database: its shard may have been replaced by another.

        Raises SamplesForgotten.
        """
        with read(self._engine) as session:
            if forgotten_samples(session, [number]):
                raise SamplesForgotten(f"sample {number} is forgotten")
        with self._growing:
            self._load(np.array([number]))
        return self.find(np.array([number]))[0]

    def _window(self, number: int, offset: int, position: int, shard: int, episode: int) -> Window:
        episode_id, version, num_unrecorded = self._episodes[episode]
        num_records = min(self._length, position + 1)
        first = position + 1 - num_records
        # A lone frame has no frame before it, so it starts from padding wherever it is.
        starts_episode = first == 0 and (num_unrecorded == 0 or num_records == 1)
        path, checksum = self._shards[shard]
        return Window(
            number=number,
            shard_path=path,
            checksum=checksum,
            offset=offset - (num_records - 1) * self._record_bytes,
            num_records=num_records,
            starts_episode=starts_episode,
            first_key=sample_key(episode_id, version, first),
            last_key=sample_key(episode_id, version, position),
        )

    def _load(self, numbers: IntArray) -> None:
        """Put the places of sorted numbers into the table, in place of older ones."""
        if not numbers.size:
            return
        parts = []
        for start in range(0, numbers.size, ROWS_A_READ):
            with read(self._engine) as session:
                parts.append(self._read(session, numbers[start : start + ROWS_A_READ]))
        places = np.concatenate([places for _, places in parts])
        numbers = np.concatenate([found for found, _ in parts])
        kept = ~np.isin(self._table.numbers, numbers)
        others, other_places = self._table.numbers[kept], self._table.places[kept]
        at = np.searchsorted(others, numbers)
        self._table = _Table(np.insert(others, at, numbers), np.insert(other_places, at, places))

    def _read(self, session: Session, numbers: IntArray) -> tuple[IntArray, NDArray[np.void]]:
        """Those that are not forgotten, in their order, and their places."""
        rows = session.execute(
            select(
                Sample.number,
                Placement.offset,
                Sample.position,
                Placement.shard_id,
                Sample.episode_id,
                Sample.episode_version,
                Episode.num_unrecorded,
            )
            .join(Placement, Placement.sample_number == Sample.number)
            .join(Episode, Episode.episode_id == Sample.episode_id)
            .where(
                Sample.number.in_(numbers.tolist()),
                Placement.representation == self._representation,
            )
            .order_by(Sample.number)
        ).all()
        missing = set(numbers.tolist()) - {row[0] for row in rows}
        if missing and (missing := missing - forgotten_samples(session, missing)):
            raise ValueError(f"sample {min(missing)} has no place in {self._representation}")
        self._learn_shards(session, {row[3] for row in rows})
        places = np.empty(len(rows), dtype=_PLACE)
        places["offset"] = [row[1] for row in rows]
        places["position"] = [row[2] for row in rows]
        places["shard"] = [self._shard_indices[row[3]] for row in rows]
        places["episode"] = [self._episode((row[4], row[5], row[6])) for row in rows]
        return np.array([row[0] for row in rows], dtype=np.int64), places

    def _learn_shards(self, session: Session, shard_ids: set[str]) -> None:
        unknown = shard_ids - self._shard_indices.keys()
        query = select(Shard.shard_id, Shard.path, Shard.checksum)
        for shard_id, path, checksum in session.execute(query.where(Shard.shard_id.in_(unknown))):
            self._shards.append((path, checksum))
            self._shard_indices[shard_id] = len(self._shards) - 1

    def _episode(self, episode: tuple[str, int, int]) -> int:
        index = self._episode_indices.setdefault(episode, len(self._episodes))
        if index == len(self._episodes):
            self._episodes.append(episode)
        return index
