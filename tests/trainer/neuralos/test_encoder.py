"""Frames to latents and back, and the hash that versions them."""

from pathlib import Path

import numpy as np
import torch

from trainer.neuralos.encoder import Encoder, EncoderConfig

SMALL = EncoderConfig(block_out_channels=(16,))


def _encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    encoder = Encoder(SMALL).eval()
    encoder.round_weights()
    return encoder


def _frames(num: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (num, 96, 128, 3), dtype=np.uint8)


def test_a_frame_becomes_a_latent_of_twelve_by_sixteen_and_comes_back() -> None:
    encoder = _encoder()
    latents = encoder.encode(_frames(3))
    assert (latents.shape, latents.dtype) == ((3, 16, 12, 16), np.float32)
    frames = encoder.decode(latents)
    assert (frames.shape, frames.dtype) == ((3, 96, 128, 3), np.uint8)


def test_no_frames_are_no_latents() -> None:
    encoder = _encoder()
    assert encoder.encode(_frames(0)).shape == (0, 16, 12, 16)
    assert encoder.decode(encoder.encode(_frames(0))).shape == (0, 96, 128, 3)


def test_a_stored_encoder_encodes_as_before_and_keeps_its_hash(tmp_path: Path) -> None:
    encoder = _encoder()
    encoder.latent_mean.uniform_()
    encoder.save(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert loaded.hash == encoder.hash
    assert np.array_equal(loaded.encode(_frames(2)), encoder.encode(_frames(2)))


def test_weights_and_statistics_both_name_the_encoder() -> None:
    encoder = _encoder()
    known = encoder.hash
    encoder.latent_std += 1
    assert encoder.hash != known
    assert _encoder(seed=1).hash != known
    assert len(known) == 16
