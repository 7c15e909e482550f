"""How fast windows reach a batch, beside a bare pread of as many: `python benchmarks/stream.py`.

Batches of 64 shuffled windows of 24 records (14 kB each), page cache hot: by a bare pread into a
new batch, by `WindowReader`, and by the whole stream with its sampler and thread. Then what drawing
a batch from a million samples costs, and what taking 10,000 fresh ones in.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ingest.buffer import NewSample, add_samples, add_shard, new_revision, sample_key
from ingest.database import open_engine, upgrade, write
from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from ingest.shards import ShardWriter
from ingest.tables import Episode, EventRow, SessionRow
from trainer.mix.adopt import AdoptionPlan
from trainer.mix.cohorts import SliceChange
from trainer.mix.permutation import IntArray
from trainer.mix.sampler import MixSampler
from trainer.mix.stream import Stream
from trainer.neuralos.records import ACTION_WIDTH, LATENT_SHAPE, pack, record_bytes
from trainer.neuralos.window_reader import LENGTH, WindowReader

NUM_EPISODES = 60
EPISODE_LENGTH = 250
BATCH_SIZE = 64
SECONDS = 3.0
REPRESENTATION = "latent:benchmark"


def main() -> None:
    """Print one line a measurement."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        upgrade(settings)
        engine = open_engine(settings.resolved_database_url)
        with write(engine) as session:
            numbers = fill(session, open_store(settings))
        measure_reading(engine, settings, numbers)
        engine.dispose()
    measure_sampling()


def fill(session: Session, store: ShardStore) -> IntArray:
    """Episodes with latents, a shard each; returns the samples' numbers."""
    visit = SessionRow(
        session_key="visit",
        source="benchmark",
        session_id="visit",
        split="train",
        first_timestamp=0.0,
        last_timestamp=0.0,
        received_at=0.0,
        num_events=1,
        needs_cut=False,
    )
    event = EventRow(
        source="benchmark",
        event_id="event",
        session_key="visit",
        kind="action",
        timestamp=0.0,
        payload_json="{}",
        digest="",
        received_at=0.0,
    )
    for row in (visit, event):
        session.add(row)
        session.flush()
    episodes = [add_episode(session, store, index, event) for index in range(NUM_EPISODES)]
    return np.concatenate(episodes)


def add_episode(session: Session, store: ShardStore, index: int, event: EventRow) -> IntArray:
    """One episode of random latents; returns its samples' numbers."""
    episode = Episode(
        episode_id=f"episode-{index}",
        session_key="visit",
        ordinal=index,
        version=1,
        digest="",
        num_actions=EPISODE_LENGTH,
        num_unrecorded=0,
        first_timestamp=0.0,
        last_timestamp=0.0,
        num_auto=0,
        state="replayed",
        attempts=0,
        environment="drawn/1",
        tasks="",
        num_stuck_keys=0,
    )
    session.add(episode)
    session.flush()
    revision = new_revision(session, "replayed", added=EPISODE_LENGTH, retired=0, now=0.0)
    samples = [
        NewSample(position, event.number, 0.0, (), None, is_auto=False)
        for position in range(EPISODE_LENGTH)
    ]
    numbers = add_samples(session, episode, samples, revision)
    latents = np.random.default_rng(index).normal(size=(EPISODE_LENGTH, *LATENT_SHAPE))
    action = np.zeros(ACTION_WIDTH, dtype=np.int16)
    with ShardWriter(store, "latents") as writer:
        keys = [sample_key(episode.episode_id, 1, position) for position in range(EPISODE_LENGTH)]
        spans = [writer.add(pack(key, latents[i], action)) for i, key in enumerate(keys)]
        shard = writer.publish()
    placed = list(zip(numbers, spans, strict=True))
    add_shard(session, shard, REPRESENTATION, placed=placed, revision=revision, now=0.0)
    return np.array(numbers)


def measure_reading(engine: Engine, settings: Settings, numbers: IntArray) -> None:
    """The three readers over the same samples."""
    rng = np.random.default_rng(0)
    window_bytes = LENGTH * record_bytes()
    files = [os.open(path, os.O_RDONLY) for path in sorted(settings.shards_path.rglob("*.tar"))]
    last_start = EPISODE_LENGTH * record_bytes() - window_bytes

    def bare() -> None:
        batch = np.empty((BATCH_SIZE, window_bytes), dtype=np.uint8)
        shards = rng.integers(0, len(files), BATCH_SIZE).tolist()
        offsets = rng.integers(0, last_start, BATCH_SIZE).tolist()
        for row, shard, offset in zip(batch, shards, offsets, strict=True):
            os.preadv(files[shard], [row.data], offset)

    reader = WindowReader(engine, open_store(settings), REPRESENTATION)
    reader.prepare(numbers)
    report_rate("bare pread", bare)
    report_rate("WindowReader", lambda: reader.read(rng.choice(numbers, BATCH_SIZE)))
    with Stream(MixSampler({"all": 1.0}, seed=0), reader, BATCH_SIZE) as stream:
        stream.adopt(AdoptionPlan(1, 0, 1, {"all": joining(numbers, number=1)}))
        report_rate("Stream", stream.next_batch)
    for file in files:
        os.close(file)


def measure_sampling() -> None:
    """The sampler over a million samples."""
    sampler = MixSampler({"base": 0.7, "fresh": 0.3}, seed=0)
    million = np.arange(1_000_000)
    base, fresh = joining(million[:900_000], number=1), joining(million[900_000:], number=1)
    sampler.adopt(1, {"base": base, "fresh": fresh})
    sampler.draw(BATCH_SIZE)
    seconds = median_seconds(lambda: sampler.draw(BATCH_SIZE))
    print(f"drawing {BATCH_SIZE} of 1,000,000: {seconds * 1e3:.2f} ms")
    more = joining(np.arange(1_000_000, 1_010_000), number=2)
    started = time.perf_counter()
    sampler.adopt(2, {"base": more})
    print(f"taking 10,000 fresh in: {(time.perf_counter() - started) * 1e3:.0f} ms")


def joining(numbers: IntArray, *, number: int) -> SliceChange:
    """Samples of a thousand owners, a tenth of them near a change."""
    return SliceChange(
        added=numbers,
        owners=numbers % 1_000,
        is_change=numbers % 10 == 0,
        adopted=np.full(numbers.size, number),
    )


def report_rate(name: str, read_batch: Callable[[], object]) -> None:
    """Print the samples a second that a batch's median time means."""
    seconds = median_seconds(read_batch)
    print(f"{name}: {BATCH_SIZE / seconds:,.0f} windows/s, {seconds * 1e3:.2f} ms a batch")


def median_seconds(call: Callable[[], object]) -> float:
    """The median over `SECONDS` of calls, after a few to warm up."""
    for _ in range(5):
        call()
    taken: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
