"""Episodes with latent shards on disk for tests, as the encode worker leaves them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from ingest.buffer import FRAME, add_shard, new_revision, sample_key
from ingest.shard_store import ShardStore
from ingest.shards import ShardWriter
from ingest.tables import Sample
from tests.factories import START, make_samples, make_session
from trainer.mix.permutation import IntArray
from trainer.neuralos.records import ACTION_WIDTH, LATENT_SHAPE, pack

REPRESENTATION = "latent:tiny"


def make_latent(number: int) -> NDArray[np.float32]:
    """The latent of a sample: its number in every place, so that a mistake shows."""
    return np.full(LATENT_SHAPE, number, dtype=np.float32)


def make_episode_with_latents(
    session: Session, store: ShardStore, num_samples: int, *, user_id: str | None = None
) -> range:
    """One replayed and encoded episode; returns its samples' numbers."""
    owner = make_session(session, user_id=user_id)
    numbers = make_samples(
        session, owner=owner, changes=[()] * num_samples, representations=(FRAME,)
    )
    encode(session, store, numbers)
    return numbers


def encode(session: Session, store: ShardStore, numbers: Sequence[int] | IntArray) -> None:
    """One latent shard of these samples, with their places."""
    revision = new_revision(session, "encoded", added=len(numbers), retired=0, now=START)
    with ShardWriter(store, "latents") as writer:
        placed = []
        for number in map(int, numbers):
            row = session.get_one(Sample, number)
            key = sample_key(row.episode_id, row.episode_version, row.position)
            action = np.full(ACTION_WIDTH, row.position, dtype=np.int16)
            placed.append((number, writer.add(pack(key, make_latent(number), action))))
        shard = writer.publish()
    add_shard(session, shard, REPRESENTATION, placed=placed, revision=revision, now=START)
