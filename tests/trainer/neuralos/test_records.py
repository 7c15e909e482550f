"""What `trainer.neuralos.records` promises."""

import io
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from ingest.shard_store import FolderStore
from ingest.shards import CorruptShardError, ShardWriter, read_span
from trainer.neuralos.records import (
    ACTION_WIDTH,
    FIRST_KEY,
    LATENT_SHAPE,
    action_vector,
    pack,
    record_bytes,
    unpack,
)

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


def random_records(
    num: int, shape: tuple[int, ...] = LATENT_SHAPE, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((num, *shape)).astype(np.float32)
    return latents, rng.integers(-500, 500, (num, ACTION_WIDTH)).astype(np.int16)


def write_shard(folder: Path, latents: np.ndarray, actions: np.ndarray) -> tuple[Path, list]:
    with ShardWriter(FolderStore(folder), "latents") as writer:
        spans = [
            writer.add(pack(f"episode-1-{index:05d}", latent, action))
            for index, (latent, action) in enumerate(zip(latents, actions, strict=True))
        ]
        return folder / writer.publish().path, spans


def test_a_record_of_the_tiny_model_takes_14336_bytes() -> None:
    assert record_bytes() == 14_336


@given(shape=SHAPES, num=st.integers(1, 5), data=st.data())
def test_any_run_of_records_reads_back_from_one_contiguous_read(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    num: int,
    data: st.DataObject,
) -> None:
    latents, actions = random_records(num, shape)
    path, spans = write_shard(tmp_path_factory.mktemp("records"), latents, actions)
    first = data.draw(st.integers(0, num - 1))
    last = data.draw(st.integers(first, num - 1))
    read = read_span(path, spans[first].offset, record_bytes(shape) * (last + 1 - first))
    found_latents, found_actions = unpack(read, shape)
    np.testing.assert_array_equal(found_latents, latents[first : last + 1])
    np.testing.assert_array_equal(found_actions, actions[first : last + 1])


def test_unpacking_copies_nothing(tmp_path: Path) -> None:
    path, spans = write_shard(tmp_path, *random_records(2))
    data = bytearray(read_span(path, spans[0].offset, 2 * record_bytes()))
    latents, actions = unpack(memoryview(data))
    assert np.shares_memory(latents, np.frombuffer(data, np.uint8))
    assert np.shares_memory(actions, np.frombuffer(data, np.uint8))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves its file open
def test_the_stock_webdataset_library_reads_a_latent_shard(tmp_path: Path) -> None:
    latents, actions = random_records(3)
    path, _ = write_shard(tmp_path, latents, actions)
    read = list(webdataset.WebDataset(str(path), shardshuffle=False))
    for index, sample in enumerate(read):
        assert sample["__key__"] == f"episode-1-{index:05d}"
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["latent.npy"])), latents[index])
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["action.npy"])), actions[index])
    assert len(read) == 3


def test_half_a_record_is_corruption(tmp_path: Path) -> None:
    path, spans = write_shard(tmp_path, *random_records(1))
    with pytest.raises(CorruptShardError, match="no whole records"):
        unpack(read_span(path, spans[0].offset, 512))


def test_records_read_from_a_wrong_place_are_corruption(tmp_path: Path) -> None:
    path, spans = write_shard(tmp_path, *random_records(3))
    with pytest.raises(CorruptShardError, match="no records"):
        unpack(read_span(path, spans[1].offset + 512, record_bytes()))


def test_records_of_another_shape_are_corruption(tmp_path: Path) -> None:
    path, spans = write_shard(tmp_path, *random_records(1, (16, 16, 12)))
    with pytest.raises(CorruptShardError, match="no records"):
        unpack(read_span(path, spans[0].offset, record_bytes()))


def test_an_action_vector_holds_pointer_buttons_change_and_held_keys() -> None:
    vector = action_vector(
        x=511, y=3, is_left_click=True, is_right_click=False, is_change=True, held=[0, 178]
    )
    assert vector[:FIRST_KEY].tolist() == [511, 3, 1, 0, 1]
    assert np.flatnonzero(vector[FIRST_KEY:]).tolist() == [0, 178]
    assert (vector.dtype, vector.shape) == (np.int16, (184,))


def test_an_action_without_keys_holds_none() -> None:
    vector = action_vector(
        x=0, y=0, is_left_click=False, is_right_click=False, is_change=False, held=[]
    )
    assert not vector.any()
