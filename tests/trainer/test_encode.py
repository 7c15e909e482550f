"""What `trainer.encode` promises."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from sqlalchemy import Engine, func, select, update

from control_api.verify import verify as verify_all
from ingest.buffer import latest_revision, sample_key
from ingest.database import read, write
from ingest.keyboard import INDEX_OF
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.worker import ReplayWorker
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.shards import read_span, split_members, verify
from ingest.tables import Episode, Placement, Revision, Sample, Shard
from tests.factories import action_payload
from tests.trainer.encoding import encode_all, places, replay
from tests.waiting import wait_until
from trainer.encode import EncodeWorker
from trainer.neuralos.encoder import Encoder, EncoderConfig
from trainer.neuralos.records import FIRST_KEY, IS_CHANGE, LEFT, X, Y, record_bytes, unpack

FIREFOX = {"x": 190, "y": 45}
OPEN_BROWSER = [
    action_payload(**FIREFOX, keys_down=["Shift"]),
    action_payload(**FIREFOX, is_left_click=True),
    action_payload(**FIREFOX, is_left_click=True),
    action_payload(x=100.6, y=20),
    action_payload(x=101, y=21, keys_up=["Shift"]),
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """An encoder of the shipped one's sizes whose weights nobody trained."""
    torch.manual_seed(0)
    return Encoder(EncoderConfig()).eval().requires_grad_(False)


@pytest.fixture
def worker(engine: Engine, settings: Settings, encoder: Encoder) -> EncodeWorker:
    return EncodeWorker(engine, open_store(settings), encoder)


def frames_of(engine: Engine, settings: Settings) -> np.ndarray:
    pictures = [
        split_members(
            read_span(settings.shards_path / shard.path, placement.offset, placement.length)
        )["png"]
        for _, placement, shard in places(engine, "frame")
    ]
    return np.stack([np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures])


def records_of(
    engine: Engine, settings: Settings, representation: str
) -> tuple[np.ndarray, np.ndarray]:
    """Every sample's latent and action, each read at its own place."""
    records = [
        unpack(read_span(settings.shards_path / shard.path, placement.offset, placement.length))
        for _, placement, shard in places(engine, representation)
    ]
    return (
        np.concatenate([latent for latent, _ in records]),
        np.concatenate([action for _, action in records]),
    )


def damage(settings: Settings, engine: Engine, episode_id: str) -> str:
    """Flip one byte of an episode's frame shard; returns the shard's id."""
    with read(engine) as session:
        shard = session.scalars(
            select(Shard)
            .join(Placement, Placement.shard_id == Shard.shard_id)
            .join(Sample, Sample.number == Placement.sample_number)
            .where(Sample.episode_id == episode_id)
        ).first()
    assert shard is not None
    path = settings.shards_path / shard.path
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    return shard.shard_id


def test_held_out_samples_get_no_latents(
    worker: EncodeWorker, engine: Engine, settings: Settings
) -> None:
    replay(engine, settings, split="eval")
    encode_all(worker)
    assert places(engine, worker.representation) == []


def test_every_sample_gets_the_latent_of_its_own_frame(
    engine: Engine, settings: Settings, worker: EncodeWorker, encoder: Encoder
) -> None:
    replay(engine, settings, OPEN_BROWSER)
    replay(engine, settings, 40)
    encode_all(worker)
    latents, _ = records_of(engine, settings, worker.representation)
    wanted = encoder.encode(frames_of(engine, settings))
    np.testing.assert_allclose(latents, wanted, atol=1e-5)
    assert len(np.unique(wanted.reshape(len(wanted), -1), axis=0)) > 4


def test_a_records_action_is_the_samples_with_keys_held_over_ticks(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, OPEN_BROWSER)
    encode_all(worker)
    _, actions = records_of(engine, settings, worker.representation)
    assert actions[:, [X, Y]].tolist() == [[190, 45]] * 3 + [[100, 20], [101, 21]]
    assert actions[:, LEFT].tolist() == [0, 1, 1, 0, 0]
    assert actions[:, IS_CHANGE].tolist() == [0, 0, 1, 0, 0]
    assert actions[:, FIRST_KEY + INDEX_OF["shift"]].tolist() == [1, 1, 1, 1, 0]
    assert actions[:, FIRST_KEY:].sum() == 4


def test_an_episodes_records_are_contiguous_and_in_order(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, 40)
    encode_all(worker)
    rows = places(engine, worker.representation)
    assert [sample.position for sample, _, _ in rows] == list(range(40))
    assert [placement.offset for _, placement, _ in rows] == [
        index * record_bytes() for index in range(40)
    ]
    assert {placement.length for _, placement, _ in rows} == {record_bytes()}
    assert len({shard.shard_id for _, _, shard in rows}) == 1


def test_a_latent_does_not_depend_on_what_is_encoded_with_it(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, OPEN_BROWSER[:2])
    replay(engine, settings, OPEN_BROWSER)
    encode_all(worker)
    latents, _ = records_of(engine, settings, worker.representation)
    np.testing.assert_array_equal(latents[:2], latents[2:4])


def test_encoding_is_one_revision_a_shard_that_adds_its_samples(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, 3)
    encode_all(worker)
    with read(engine) as session:
        revision = session.get_one(Revision, 2)
        assert (revision.kind, revision.num_added, revision.num_retired) == ("encoded", 3, 0)
        added = select(Placement.added_revision).where(
            Placement.representation == worker.representation
        )
        assert session.scalars(added).all() == [2, 2, 2]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves its file open
def test_the_stock_webdataset_library_decodes_a_latent_shard(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, OPEN_BROWSER)
    encode_all(worker)
    ((first, _, shard), *_) = places(engine, worker.representation)
    path = settings.shards_path / shard.path
    verify(path, shard.checksum)
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert samples[0]["__key__"] == sample_key(first.episode_id, 1, 0)
    latents, actions = records_of(engine, settings, worker.representation)
    np.testing.assert_array_equal([sample["latent.npy"] for sample in samples], latents)
    np.testing.assert_array_equal([sample["action.npy"] for sample in samples], actions)


def test_another_encoder_makes_a_representation_of_its_own(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    torch.manual_seed(1)
    other = EncodeWorker(engine, open_store(settings), Encoder(EncoderConfig()).eval())
    replay(engine, settings, 3)
    encode_all(worker)
    encode_all(other)
    assert worker.representation != other.representation
    assert len(places(engine, worker.representation)) == 3
    assert len(places(engine, other.representation)) == 3


def test_a_superseded_version_is_not_encoded(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, 3)
    with write(engine) as session:
        session.execute(update(Episode).values(version=2, state="waiting"))
    with ReplayWorker(engine, settings, lambda: DrawnDesktop(128, 96)) as replayer:
        replayer.replay_next()
    encode_all(worker)
    assert {s.episode_version for s, _, _ in places(engine, worker.representation)} == {2}


def test_what_comes_while_the_worker_rests_is_encoded(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    for _ in range(3):
        replay(engine, settings, 2)
        encode_all(worker)
        assert not worker.encode_some(threading.Event())
    assert len(places(engine, worker.representation)) == 6


def test_two_workers_place_every_sample_once(
    engine: Engine, settings: Settings, encoder: Encoder
) -> None:
    for _ in range(6):
        replay(engine, settings, 2)
    workers = [EncodeWorker(engine, open_store(settings), encoder) for _ in range(2)]
    threads = [threading.Thread(target=encode_all, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(places(engine, workers[0].representation)) == 12
    with read(engine) as session:
        assert latest_revision(session) == 12
        added = session.scalars(
            select(func.sum(Revision.num_added)).where(Revision.kind == "encoded")
        )
        assert added.one() == 12


def test_a_damaged_shard_is_quarantined_with_its_samples_and_the_next_is_encoded(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    damaged = replay(engine, settings, 3)
    sound = replay(engine, settings, 2)
    shard_id = damage(settings, engine, damaged)
    encode_all(worker)
    with read(engine) as session:
        assert session.get_one(Shard, shard_id).state == "quarantined"
        live = session.scalars(
            select(Sample.episode_id).where(Sample.retired_revision.is_(None)).distinct()
        ).all()
        assert live == [sound]
    encoded = {sample.episode_id for sample, _, _ in places(engine, worker.representation)}
    assert encoded == {sound}


def test_latents_that_were_lost_are_made_anew_bit_for_bit(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, OPEN_BROWSER)
    replay(engine, settings, 2)
    encode_all(worker)
    before = [
        (sample.number, placement.offset, shard.shard_id)
        for sample, placement, shard in places(engine, worker.representation)
    ]
    path = settings.shards_path / places(engine, worker.representation)[0][2].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    [judged] = verify_all(settings, repair=True).judged
    assert (judged.finding.kind, judged.is_mended) == ("shard_damaged", True)
    encode_all(worker)
    assert path.read_bytes() == whole
    assert before == [
        (sample.number, placement.offset, shard.shard_id)
        for sample, placement, shard in places(engine, worker.representation)
        if sample.retired_revision is None
    ]
    assert verify_all(settings, repair=False).judged == []


def test_frames_of_another_size_are_left_alone(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, 3, size=(64, 48))
    replay(engine, settings, 2)
    encode_all(worker)
    assert len(places(engine, worker.representation)) == 2
    with read(engine) as session:
        states = session.scalars(select(Shard.state).distinct()).all()
        assert states == ["live"]


def test_a_file_that_is_gone_holds_up_nobody(
    engine: Engine, settings: Settings, worker: EncodeWorker
) -> None:
    replay(engine, settings, 3)
    for path in settings.shards_path.rglob("*.tar"):
        path.unlink()
    replay(engine, settings, 2)
    encode_all(worker)
    assert len(places(engine, worker.representation)) == 2


def test_a_stopped_worker_returns(engine: Engine, settings: Settings, worker: EncodeWorker) -> None:
    replay(engine, settings, 3)
    stop = threading.Event()
    stop.set()
    worker.run(stop)
    assert worker.encode_some(stop)
    assert places(engine, worker.representation) == []


def start_worker_process(settings: Settings, encoder: Path) -> subprocess.Popen[bytes]:
    places = {"STOVETOP_DATA": str(settings.data), "STOVETOP_ENCODER": str(encoder)}
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.encode"],
        env=os.environ | places,
        stdout=subprocess.DEVNULL,
    )


def test_killing_the_worker_neither_loses_nor_doubles_a_latent(
    engine: Engine, settings: Settings, encoder: Encoder, tmp_path: Path
) -> None:
    encoder.round_weights()
    encoder.save(tmp_path / "encoder")
    representation = f"latent:{encoder.hash}"
    for _ in range(4):
        replay(engine, settings, 30)

    def num_placed() -> int:
        is_latent = Placement.representation == representation
        with read(engine) as session:
            return session.scalar(select(func.count()).where(is_latent)) or 0

    def wait_until_placed(num_samples: int) -> None:
        wait_until(lambda: num_placed() >= num_samples, within_s=120)

    first = start_worker_process(settings, tmp_path / "encoder")
    wait_until_placed(1)
    first.kill()
    first.wait()
    second = start_worker_process(settings, tmp_path / "encoder")
    wait_until_placed(4 * 30)
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0

    assert len(places(engine, representation)) == 4 * 30
    latents, _ = records_of(engine, settings, representation)
    wanted = encoder.encode(frames_of(engine, settings))
    np.testing.assert_allclose(latents, wanted, atol=1e-5)
