"""Reads documents: sample numbers in, their texts, and the arrays of a training batch, out.

The arrays have one entry a sample: `tokens` int64 (B, longest), zero after a document's end, its
`lengths` (B,) and the `sample_numbers`. What is guaranteed of files is `mix.shard_files`; of every
document its name in the shard is compared with the sample's, too.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from ingest.buffer import DOCUMENT, sample_key
from ingest.database import read
from ingest.forgetting.tombstones import forgotten_samples
from ingest.shard_store import ShardStore
from ingest.shards import BLOCK, CorruptShardError, split_members
from ingest.tables import Placement, Sample, Shard
from trainer.causal_lm.tokens import Tokenizer
from trainer.mix.forgotten import ForgottenNumbers
from trainer.mix.permutation import IntArray
from trainer.mix.shard_files import ShardFiles
from trainer.mix.stream import SamplesForgotten

ROWS_A_READ = 1_000


@dataclass(frozen=True, slots=True)
class _Place:
    number: int
    shard_path: str
    checksum: str
    offset: int
    length: int
    key: str


class DocumentTexts:
    """Whole documents by their sample numbers; `close` it."""

    def __init__(self, engine: Engine, store: ShardStore) -> None:
        self._engine = engine
        self._files = ShardFiles(store)
        self._places: dict[int, _Place] = {}
        self._growing = threading.Lock()
        self._forgotten = ForgottenNumbers(engine)

    def prepare(self, numbers: IntArray) -> None:
        """Look up where these documents lie.

        Those that are forgotten lie nowhere. Raises ValueError naming a sample that is no document.
        """
        with self._growing:
            if gone := self._forgotten.news():
                self._places = {n: at for n, at in self._places.items() if n not in gone}
                self._files.let_go_of_removed()
            self._load([n for n in numbers.tolist() if n not in self._places])

    def texts(self, numbers: IntArray) -> list[bytes]:
        """Documents as UTF-8, in their order.

        Raises ShardDamaged, SamplesForgotten, or ValueError for a sample that is no document.
        """
        if any(number not in self._places for number in numbers.tolist()):
            self.prepare(numbers)
        try:
            places = [self._places[number] for number in numbers.tolist()]
        except KeyError as error:
            raise SamplesForgotten(f"sample {error} is forgotten") from None
        return [self._files.read(place, _read_text, self._find_again) for place in places]

    def close(self) -> None:
        """Close the shards."""
        self._files.close()

    def _find_again(self, number: int) -> _Place:
        """A document's place from the database: its shard may have been replaced by another."""
        with read(self._engine) as session:
            if forgotten_samples(session, [number]):
                raise SamplesForgotten(f"sample {number} is forgotten")
        with self._growing:
            self._load([number])
        return self._places[number]

    def _load(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), ROWS_A_READ):
            some = numbers[start : start + ROWS_A_READ]
            with read(self._engine) as session:
                found = {place.number: place for place in _read_places(session, some)}
                missing = set(some) - found.keys()
                missing -= forgotten_samples(session, missing)
            if missing:
                raise ValueError(f"sample {min(missing)} has no place in {DOCUMENT}")
            self._places |= found


class DocumentReader(DocumentTexts):
    """A stream's reader (`stream.Reader`): of each document at most `max_tokens` tokens."""

    def __init__(
        self, engine: Engine, store: ShardStore, tokenizer: Tokenizer, *, max_tokens: int
    ) -> None:
        super().__init__(engine, store)
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def read(self, numbers: IntArray) -> dict[str, NDArray[Any]]:
        """The tokens of documents, in their order, B of them. Raises as `texts` does."""
        documents = [
            self._tokenizer.encode(text)[: self._max_tokens] for text in self.texts(numbers)
        ]
        lengths = np.array([document.size for document in documents], np.int64)
        tokens = np.zeros((len(documents), lengths.max(initial=0)), np.int64)
        for row, document in zip(tokens, documents, strict=True):
            row[: document.size] = document
        return {"tokens": tokens, "lengths": lengths, "sample_numbers": numbers}


def _read_places(session: Session, numbers: Sequence[int]) -> list[_Place]:
    rows = session.execute(
        select(
            Sample.number,
            Shard.path,
            Shard.checksum,
            Placement.offset,
            Placement.length,
            Sample.episode_id,
            Sample.episode_version,
            Sample.position,
        )
        .join(Placement, Placement.sample_number == Sample.number)
        .join(Shard, Shard.shard_id == Placement.shard_id)
        .where(Sample.number.in_(numbers), Placement.representation == DOCUMENT)
    )
    return [_Place(*row[:5], key=sample_key(*row[5:])) for row in rows]


def _read_text(descriptor: int, place: _Place) -> bytes:
    data = os.pread(descriptor, place.length, place.offset)
    name = f"{place.key}.txt".encode()
    if len(data) != place.length or data[:BLOCK].rstrip(b"\0")[: len(name)] != name:
        raise CorruptShardError(f"at {place.offset} is not the document of {place.key}")
    return split_members(data)["txt"]
