"""The batch's contract: alignment, starts, and which frames are learned from."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.neuralos.conftest import NumpyBatch
from trainer.neuralos.config import ModelConfig
from trainer.neuralos.records import IS_CHANGE, LEFT
from trainer.neuralos.windows import (
    STARTS_PADDING,
    STARTS_UNKNOWN,
    collate,
    denormalise,
    normalise,
)

MakeBatch = Callable[..., NumpyBatch]


def test_a_step_sees_the_frame_before_and_predicts_its_own(
    make_batch: MakeBatch, config: ModelConfig
) -> None:
    raw = make_batch()
    batch = collate(raw, config)
    expected = normalise(raw["latents"], config)
    assert np.allclose(batch["previous"][1, 5], expected[1, 4])
    assert np.allclose(batch["targets"][1, 0], expected[1, batch["supervised"][1, 0]])


def test_an_episode_starts_from_padding_with_a_zero_frame(
    make_batch: MakeBatch, config: ModelConfig
) -> None:
    batch = collate(make_batch(length=12), config)
    assert batch["starts"][0].tolist() == [0] * 6 + [STARTS_PADDING] + [0] * 5
    assert torch.allclose(batch["previous"][0, 6], torch.tensor(-0.5 / 2.0))


def test_a_window_inside_an_episode_spends_its_first_record_as_the_frame_before(
    make_batch: MakeBatch, config: ModelConfig
) -> None:
    batch = collate(make_batch(length=12), config)
    assert batch["starts"][1].tolist() == [0, STARTS_UNKNOWN] + [0] * 10


def test_the_drawn_sample_is_always_supervised(make_batch: MakeBatch, config: ModelConfig) -> None:
    batch = collate(make_batch(num_windows=16), config)
    assert (batch["supervised"][:, 0] == 11).all()
    assert (batch["weights"][:, 0] == 1).all()


def test_a_change_is_preferred_to_idle_frames(make_batch: MakeBatch, config: ModelConfig) -> None:
    raw = make_batch(num_windows=200)
    raw["actions"][..., IS_CHANGE] = 0
    raw["actions"][..., LEFT] = 0
    raw["actions"][:, 8, IS_CHANGE] = 1
    supervised = collate(raw, config)["supervised"]
    assert (supervised == 8).any(dim=1).float().mean() > 0.9 * (8 + 1) / (8 + 2)


def test_a_short_window_repeats_its_target_without_weight(
    make_batch: MakeBatch, config: ModelConfig
) -> None:
    raw = make_batch(num_windows=1)
    raw["num_valid"][:] = 1
    batch = collate(raw, config)
    assert batch["supervised"].tolist() == [[11, 11, 11]]
    assert batch["weights"].tolist() == [[1, 0, 0]]


def test_a_window_without_a_step_is_refused(make_batch: MakeBatch, config: ModelConfig) -> None:
    raw = make_batch(num_windows=2)
    raw["num_valid"][1] = 1
    with pytest.raises(ValueError, match="num_valid"):
        collate(raw, config)


def test_latents_of_another_shape_are_refused(make_batch: MakeBatch, config: ModelConfig) -> None:
    raw = make_batch()
    raw["latents"] = raw["latents"][:, :, :4]
    with pytest.raises(ValueError, match="latents"):
        collate(raw, config)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(seed=st.integers(0, 1 << 20), row=st.integers(0, 7))
def test_supervision_depends_on_the_window_alone_not_on_its_neighbours(
    seed: int, row: int, make_batch: MakeBatch, config: ModelConfig
) -> None:
    raw = make_batch(num_windows=8, seed=seed)
    alone = {name: array[row : row + 1] for name, array in raw.items()}
    together = collate(raw, config)
    apart = collate(alone, config)
    assert torch.equal(together["supervised"][row], apart["supervised"][0])
    assert torch.equal(together["weights"][row], apart["weights"][0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(seed=st.integers(0, 1 << 20))
def test_supervised_frames_are_distinct_and_inside_the_window(
    seed: int, make_batch: MakeBatch, config: ModelConfig
) -> None:
    raw = make_batch(num_windows=6, seed=seed)
    batch = collate(raw, config)
    for row in range(6):
        used = batch["supervised"][row][batch["weights"][row] > 0].tolist()
        assert len(used) == len(set(used))
        assert min(used) >= 12 - raw["num_valid"][row]


def test_denormalise_undoes_normalise(config: ModelConfig) -> None:
    latents = np.random.default_rng(0).normal(size=(2, 16, 12, 16)).astype(np.float32)
    assert np.allclose(denormalise(normalise(latents, config), config), latents, atol=1e-6)
