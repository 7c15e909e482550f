"""Playing: carried states, batches and single sessions agree."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.encoder import Encoder, EncoderConfig
from trainer.neuralos.model import NeuralOS
from trainer.neuralos.records import ACTION_WIDTH, LEFT, X, Y
from trainer.neuralos.rollout import Session, Track, autoregress, predict


def _track(length: int, seed: int) -> Track:
    rng = np.random.default_rng(seed)
    actions = np.zeros((length, ACTION_WIDTH), np.int16)
    actions[:, X], actions[:, Y] = rng.integers(0, 512, length), rng.integers(0, 384, length)
    actions[:, LEFT] = rng.random(length) < 0.2
    return Track(rng.normal(size=(length, 16, 12, 16)).astype(np.float32), actions)


def _deterministic(model: NeuralOS) -> NeuralOS:
    """Weights that ignore the noise, so that order and batching cannot show."""
    with torch.no_grad():
        model.renderer.unet.conv_in.weight[:, : model.sizes.latent_channels] = 0
    return model


def test_predictions_come_in_the_order_asked_whatever_the_batching(model: NeuralOS) -> None:
    model = _deterministic(model)
    tracks = [_track(9, 1), _track(4, 2), _track(14, 3)]
    together = predict(model, tracks, [[2, 8], [3], []])
    alone = predict(model, [tracks[0]], [[8, 2]])
    assert [len(part) for part in together] == [2, 1, 0]
    assert np.allclose(together[0], alone[0][::-1], atol=1e-4)


def test_autoregression_is_teacher_forcing_on_ones_own_frames(model: NeuralOS) -> None:
    model = _deterministic(model)
    track = _track(6, 4)
    played = autoregress(model, track.actions[None])[0]
    forced = predict(model, [Track(played, track.actions)], [list(range(6))])[0]
    assert np.allclose(played, forced, atol=1e-4)


def test_a_session_shows_the_frames_of_its_rollout(config: ModelConfig) -> None:
    encoder = Encoder(EncoderConfig(block_out_channels=(16,))).eval()
    fields = {**vars(config), "encoder_hash": encoder.hash}
    model = _deterministic(NeuralOS(ModelConfig(**fields)))
    track = _track(3, 5)
    session = Session(model, encoder)
    shown = [session.step(action) for action in track.actions]
    expected = encoder.decode(autoregress(model, track.actions[None])[0])
    assert np.abs(np.stack(shown).astype(int) - expected).max() <= 1
    session.reset()
    assert np.array_equal(session.step(track.actions[0]), shown[0])


def test_a_session_refuses_an_encoder_of_another_run(model: NeuralOS, tmp_path: Path) -> None:
    encoder = Encoder(EncoderConfig(block_out_channels=(16,)))
    encoder.save(tmp_path)
    with pytest.raises(ValueError, match="encoder"):
        Session(model, Encoder.load(tmp_path))
