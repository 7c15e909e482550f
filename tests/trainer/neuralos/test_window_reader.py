"""What `trainer.neuralos.window_reader` promises."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, delete, update
from sqlalchemy.orm import Session

from ingest.database import write
from ingest.forgetting.forget import Forgetting
from ingest.forgetting.tombstones import Identity
from ingest.log import open_log
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.tables import Episode, Placement, Sample, SessionRow
from tests.trainer.neuralos.latents import (
    REPRESENTATION,
    encode,
    make_episode_with_latents,
    make_latent,
)
from trainer.mix.shard_files import MAX_OPEN_SHARDS
from trainer.mix.stream import SamplesForgotten, ShardDamaged
from trainer.neuralos.config import ModelConfig
from trainer.neuralos.window_reader import LENGTH, WindowReader
from trainer.neuralos.windows import collate

MakeEpisode = Callable[[int], range]


@pytest.fixture
def make_episode(engine: Engine, settings: Settings) -> MakeEpisode:
    def make(num_samples: int) -> range:
        with write(engine) as session:
            return make_episode_with_latents(session, open_store(settings), num_samples)

    return make


@pytest.fixture
def reader(engine: Engine, settings: Settings) -> Iterator[WindowReader]:
    reader = WindowReader(engine, open_store(settings), REPRESENTATION)
    yield reader
    reader.close()


def shards(settings: Settings) -> list[Path]:
    return sorted((settings.shards_path / "latents").rglob("*.tar"))


def open_shards(settings: Settings) -> int:
    links = (entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
    return sum(settings.shards_path in link.parents for link in links)


def remove_latents(session: Session) -> None:
    session.execute(delete(Placement).where(Placement.representation == REPRESENTATION))


def test_a_window_holds_its_sample_last_and_the_records_before_it(
    make_episode: MakeEpisode, reader: WindowReader
) -> None:
    numbers = make_episode(30)
    batch = reader.read(np.array([numbers[26]]))
    expected = [make_latent(number) for number in numbers[3:27]]
    np.testing.assert_array_equal(batch["latents"][0], expected)
    assert batch["actions"][0, :, 0].tolist() == list(range(3, 27))
    assert batch["num_valid"].tolist() == [LENGTH]
    assert batch["starts_episode"].tolist() == [False]
    assert batch["sample_numbers"].tolist() == [numbers[26]]


def test_a_window_at_the_beginning_is_right_aligned_after_zeros(
    make_episode: MakeEpisode, reader: WindowReader
) -> None:
    numbers = make_episode(30)
    batch = reader.read(np.array([numbers[0], numbers[2], numbers[LENGTH - 1]]))
    assert batch["num_valid"].tolist() == [1, 3, LENGTH]
    assert batch["starts_episode"].tolist() == [True, True, True]
    assert not batch["latents"][1, :-3].any()
    assert not batch["actions"][1, :-3].any()
    np.testing.assert_array_equal(batch["latents"][1, -3:, 0, 0, 0], numbers[:3])


def test_samples_of_several_shards_come_in_the_order_asked_for(
    make_episode: MakeEpisode, reader: WindowReader
) -> None:
    first, second = make_episode(5), make_episode(5)
    wanted = [second[4], first[0], second[1], first[3], second[4]]
    batch = reader.read(np.array(wanted))
    assert batch["latents"][:, -1, 0, 0, 0].tolist() == wanted


def test_a_batch_is_the_readers_no_more(make_episode: MakeEpisode, reader: WindowReader) -> None:
    numbers = np.array(make_episode(3))
    first = reader.read(numbers)
    first["latents"][:] = -1.0
    assert reader.read(numbers)["latents"].min() >= 0


def test_the_model_family_takes_the_batch_as_it_is(
    make_episode: MakeEpisode, reader: WindowReader, config: ModelConfig
) -> None:
    numbers = np.array(make_episode(30))
    tensors = collate(reader.read(numbers), config)
    targets = tensors["targets"][:, 0, 0, 0, 0] * config.latent_std[0] + config.latent_mean[0]
    np.testing.assert_allclose(targets.numpy(), numbers, rtol=1e-6)


def test_a_later_part_of_a_long_episode_does_not_pretend_to_start_it(
    engine: Engine, make_episode: MakeEpisode, reader: WindowReader
) -> None:
    numbers = make_episode(3)
    with write(engine) as session:
        session.execute(update(Episode).values(num_unrecorded=3000))
    batch = reader.read(np.array(numbers))
    assert batch["starts_episode"].tolist() == [True, False, False]


def test_a_wrong_offset_does_not_go_unnoticed(
    engine: Engine, make_episode: MakeEpisode, reader: WindowReader, settings: Settings
) -> None:
    numbers = make_episode(30)
    with write(engine) as session:
        placed = session.get_one(Placement, (numbers[28], REPRESENTATION))
        placed.offset -= placed.length
    with pytest.raises(ShardDamaged, match="not the record of") as caught:
        reader.read(np.array(numbers))
    path = shards(settings)[0].relative_to(settings.shards_path).as_posix()
    assert (caught.value.sample_number, caught.value.shard_path) == (numbers[28], path)


def test_a_flipped_bit_anywhere_in_a_shard_does_not_go_unnoticed(
    make_episode: MakeEpisode, reader: WindowReader, settings: Settings
) -> None:
    numbers = make_episode(3)
    path = shards(settings)[0]
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardDamaged, match="blake3") as caught:
        reader.read(np.array(numbers))
    assert caught.value.sample_number == numbers[0]


def test_a_shard_that_was_replaced_by_a_larger_one_is_looked_up_again(
    engine: Engine, make_episode: MakeEpisode, reader: WindowReader, settings: Settings
) -> None:
    numbers = np.array([*make_episode(3), *make_episode(4)])
    reader.prepare(numbers)
    small = shards(settings)
    with write(engine) as session:
        remove_latents(session)
        encode(session, open_store(settings), numbers)
    for path in small:
        path.unlink()
    batch = reader.read(numbers)
    np.testing.assert_array_equal(batch["latents"][:, -1, 0, 0, 0], numbers)


def test_a_shard_that_stays_gone_is_damaged(
    make_episode: MakeEpisode, reader: WindowReader, settings: Settings
) -> None:
    numbers = make_episode(3)
    shards(settings)[0].unlink()
    with pytest.raises(ShardDamaged, match="No such file"):
        reader.read(np.array(numbers))


def test_a_missing_folder_is_no_fault_of_a_shard(
    make_episode: MakeEpisode, reader: WindowReader, settings: Settings
) -> None:
    numbers = make_episode(3)
    settings.shards_path.rename(settings.data / "unmounted")
    with pytest.raises(FileNotFoundError):
        reader.read(np.array(numbers))


def test_a_sample_without_a_latent_is_named(
    engine: Engine, make_episode: MakeEpisode, reader: WindowReader
) -> None:
    numbers = make_episode(2)
    with write(engine) as session:
        remove_latents(session)
    with pytest.raises(ValueError, match=f"sample {numbers[0]} has no place in {REPRESENTATION}"):
        reader.prepare(np.array(numbers))


def test_no_more_shards_are_open_than_the_limit_and_none_after_close(
    engine: Engine, settings: Settings, reader: WindowReader
) -> None:
    with write(engine) as session:
        numbers = [
            make_episode_with_latents(session, open_store(settings), 1)[0]
            for _ in range(MAX_OPEN_SHARDS + 2)
        ]
    for _ in range(2):
        assert reader.read(np.array(numbers))["latents"][:, -1, 0, 0, 0].tolist() == numbers
    assert open_shards(settings) == MAX_OPEN_SHARDS
    reader.close()
    assert open_shards(settings) == 0


def test_windows_of_a_forgotten_session_are_nowhere(
    make_episode: MakeEpisode, reader: WindowReader, engine: Engine, settings: Settings
) -> None:
    gone, kept = np.array(make_episode(5)), np.array(make_episode(5))
    reader.prepare(gone)
    with write(engine) as session:
        visit = session.get_one(SessionRow, session.get_one(Sample, int(gone[0])).session_key)
    with open_log(settings) as event_log:
        who = Identity("session", visit.source, visit.session_id)
        Forgetting(engine, open_store(settings), event_log).forget(who)
    reader.prepare(np.concatenate([gone, kept]))
    assert reader.read(kept)["num_valid"].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(SamplesForgotten):
        reader.read(gone)
    assert shards(settings)
