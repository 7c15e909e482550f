"""Encode workers share the shards out by lease."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, select, update

from ingest.buffer import new_revision, num_live, retire
from ingest.database import read, write
from ingest.leases import ShardClaim, claim_shard, release_shard
from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from ingest.tables import Episode, Shard
from tests.trainer.encoding import places, replay
from trainer.encode import EncodeWorker
from trainer.neuralos.encoder import Encoder, EncoderConfig

A_MOMENT_S = 0.2


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """An encoder of the shipped one's sizes whose weights nobody trained."""
    torch.manual_seed(0)
    return Encoder(EncoderConfig()).eval().requires_grad_(False)


def test_a_shard_that_another_worker_has_is_left_to_it(
    engine: Engine, settings: Settings, encoder: Encoder
) -> None:
    worker = EncodeWorker(engine, open_store(settings), encoder)
    replay(engine, settings, 2)
    with write(engine) as session:
        shard_id = session.scalars(select(Shard.shard_id)).one()
        assert claim_shard(session, shard_id, "another", now=time.time(), lease_s=30.0)
    assert not worker.encode_some(threading.Event())
    with write(engine) as session:
        release_shard(session, ShardClaim(shard_id, "another"))
    assert worker.encode_some(threading.Event())
    assert len(places(engine, worker.representation)) == 2


def test_what_was_encoded_under_a_lease_that_is_lost_is_dropped(
    engine: Engine, settings: Settings, encoder: Encoder
) -> None:
    replay(engine, settings, 2)
    worker = EncodeWorker(engine, RobbedStore(engine, open_store(settings)), encoder)
    assert worker.encode_some(threading.Event())
    assert places(engine, worker.representation) == []


def test_samples_that_retire_while_their_latents_are_placed_stay_retired(
    engine: Engine, settings: Settings, encoder: Encoder
) -> None:
    episode_id = replay(engine, settings, 2)
    store = HeldStore(open_store(settings))
    worker = EncodeWorker(engine, store, encoder)
    with ThreadPoolExecutor(1) as pool:
        encoding = pool.submit(worker.encode_some, threading.Event())
        assert store.is_published.wait(10)
        with write(engine) as session:  # as the replay of the episode's next version does
            revision = new_revision(session, "superseded", added=0, retired=2, now=1.0)
            store.may_go_on.set()
            with pytest.raises(TimeoutError):
                encoding.result(A_MOMENT_S)
            session.get_one(Episode, episode_id).version += 1
            retire(session, [episode_id], revision)
        assert encoding.result(10)
    with read(engine) as session:
        assert num_live(session, [episode_id]) == 0
    assert places(engine, worker.representation) == []


class HeldStore:
    """A store that answers a moment after it has published."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self.is_published, self.may_go_on = threading.Event(), threading.Event()

    def publish(self, temporary: Path, path: str) -> None:
        self._store.publish(temporary, path)
        self.is_published.set()
        assert self.may_go_on.wait(10)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


class RobbedStore:
    """A store under which another worker takes every shard while its latents are published."""

    def __init__(self, engine: Engine, store: ShardStore) -> None:
        self._engine = engine
        self._store = store

    def publish(self, temporary: Path, path: str) -> None:
        self._store.publish(temporary, path)
        with write(self._engine) as session:
            session.execute(update(Shard).values(lease_holder="another"))

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)
