"""The base model's building blocks, at sizes of seconds; the whole is `make base-model`."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.neuralos.build_bank import Bank, joined
from trainer.neuralos.build_encoder import EncoderTraining, start_from_components, train_encoder
from trainer.neuralos.build_frames import Seen, wander
from trainer.neuralos.build_model import ModelTraining, train_model
from trainer.neuralos.config import ModelConfig
from trainer.neuralos.encoder import Encoder, EncoderConfig
from trainer.neuralos.model import NeuralOS
from trainer.neuralos.records import ACTION_WIDTH, IS_CHANGE, X
from trainer.neuralos.rollout import Track
from trainer.neuralos.windows import collate


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    return list(itertools.islice(wander(random.Random(1), width=128, height=96), 512))


@pytest.fixture
def track() -> Track:
    """Sixty frames that are numbered by their latents and their x; the 40th is a change."""
    latents = np.zeros((60, 16, 12, 16), np.float32) + np.arange(60)[:, None, None, None]
    actions = np.zeros((60, ACTION_WIDTH), np.int16)
    actions[:, X] = np.arange(60)
    actions[40, IS_CHANGE] = 1
    return Track(latents.astype(np.float32), actions)


def test_wandering_is_the_same_for_the_same_seed(seen: list[Seen]) -> None:
    again = itertools.islice(wander(random.Random(1), width=128, height=96), 64)
    for one, other in zip(seen, again, strict=False):
        assert np.array_equal(one.frame, other.frame)


def test_principal_components_alone_rebuild_most_of_a_frame(seen: list[Seen]) -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig()).eval()
    start_from_components(encoder, seen)
    frames = np.stack([one.frame for one in seen[:32]])
    error = encoder.decode(encoder.encode(frames)).astype(float) - frames
    assert np.square(error).mean() < 0.25 * frames.var()


def test_a_trained_encoder_measures_its_latents(tmp_path: Path) -> None:
    encoder = train_encoder(EncoderTraining(num_steps=2, warm_up_steps=1), tmp_path)
    assert Encoder.load(tmp_path).hash == encoder.hash
    assert torch.allclose(encoder.latent_std, torch.ones(16), atol=0.5)


def test_a_drawn_window_ends_at_its_sample_and_pads_on_the_left(track: Track) -> None:
    batch = Bank([track], window=24).draw(np.random.default_rng(0), 64)
    ends = batch["actions"][:, -1, X]
    assert np.array_equal(batch["latents"][:, -1, 0, 0, 0], ends)
    assert np.array_equal(batch["num_valid"], np.minimum(ends + 1, 24))
    assert np.array_equal(batch["starts_episode"], ends < 24)


def test_half_of_the_drawn_windows_hold_a_change(track: Track) -> None:
    batch = Bank([track], window=24).draw(np.random.default_rng(0), 400)
    assert 0.4 < batch["actions"][:, :, IS_CHANGE].any(axis=1).mean() < 0.6


def test_training_is_the_same_for_the_same_seed(track: Track, config: ModelConfig) -> None:
    bank = Bank([track], window=8)
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        model = NeuralOS(config)
        train_model(model, bank, ModelTraining(stage="joint", num_steps=2, batch_size=2))
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_joined_draws_are_one_batch(track: Track, config: ModelConfig) -> None:
    bank = Bank([track], window=8)
    draws = [bank.draw(np.random.default_rng(seed), 2) for seed in range(3)]
    assert len(collate(joined(draws), config)["previous"]) == 6
