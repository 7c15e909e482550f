"""Small parts of the model family, made once: untrained weights are enough for most claims."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.model import NeuralOS
from trainer.neuralos.records import ACTION_WIDTH, IS_CHANGE, LEFT, X, Y

NumpyBatch = dict[str, NDArray[Any]]


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(
        encoder_hash="0" * 16,
        latent_mean=(0.5,) * 16,
        latent_std=(2.0,) * 16,
        latent_weights=(1.0,) * 16,
        hidden=32,
        token_width=16,
        head_width=16,
        map_channels=20,
        renderer_channels=(16, 16),
        num_supervised=3,
    )


@pytest.fixture
def model(config: ModelConfig) -> NeuralOS:
    torch.manual_seed(5)
    return NeuralOS(config)


@pytest.fixture
def make_batch() -> Callable[..., NumpyBatch]:
    def make(num_windows: int = 4, length: int = 12, seed: int = 0) -> NumpyBatch:
        rng = np.random.default_rng(seed)
        actions = np.zeros((num_windows, length, ACTION_WIDTH), np.int16)
        actions[..., X] = rng.integers(0, 512, (num_windows, length))
        actions[..., Y] = rng.integers(0, 384, (num_windows, length))
        actions[..., LEFT] = rng.random((num_windows, length)) < 0.3
        actions[..., IS_CHANGE] = rng.random((num_windows, length)) < 0.1
        starts_episode = np.arange(num_windows) % 2 == 0
        num_valid = np.where(starts_episode, length // 2, length)
        latents = rng.normal(size=(num_windows, length, 16, 12, 16)).astype(np.float32)
        for row, valid in enumerate(num_valid):
            latents[row, : length - valid] = 0
            actions[row, : length - valid] = 0
        return {
            "latents": latents,
            "actions": actions,
            "num_valid": num_valid,
            "starts_episode": starts_episode,
            "sample_numbers": rng.integers(0, 1 << 40, num_windows),
        }

    return make
