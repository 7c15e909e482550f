"""Frame shards to encode, and what came of them, for tests of the encode worker."""

import threading
from collections.abc import Sequence

from sqlalchemy import Engine, select

from ingest.database import read, write
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.worker import ReplayWorker
from ingest.settings import Settings
from ingest.tables import Placement, Sample, Shard
from tests.factories import make_episode, make_session
from trainer.encode import EncodeWorker


def replay(
    engine: Engine,
    settings: Settings,
    payloads: Sequence[dict[str, object]] | int = 3,
    size: tuple[int, int] = (128, 96),
    split: str = "train",
) -> str:
    """Make an episode and replay it; returns its id."""
    with write(engine) as session:
        owner = make_session(session, split=split)
        episode_id = make_episode(session, owner, payloads=payloads).episode_id
    with ReplayWorker(engine, settings, lambda: DrawnDesktop(*size)) as worker:
        assert worker.replay_next()
    return episode_id


def encode_all(worker: EncodeWorker) -> None:
    """Until nothing is left to encode."""
    while worker.encode_some(threading.Event()):
        pass


def places(engine: Engine, representation: str) -> list[tuple[Sample, Placement, Shard]]:
    """Every sample with its place in a representation."""
    with read(engine) as session:
        rows = session.execute(
            select(Sample, Placement, Shard)
            .join(Placement, Placement.sample_number == Sample.number)
            .join(Shard, Shard.shard_id == Placement.shard_id)
            .where(Placement.representation == representation)
            .order_by(Sample.number)
        )
        return [tuple(row) for row in rows]
