"""The encoder's training: frames of many desktops in, a frozen `Encoder` with statistics out.

Loss: squared plus absolute error in [-1, 1] pixels, weighed 1 + 10 near the pointer and + 2 on
edges, and 1e-5 x KL, which keeps latents small and smooth. Without the weights the pointer, 40 of
12,288 pixels, is the first thing to be lost (neuralos.md 7.3: 0.18 found when white on white).
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from trainer.neuralos.build_frames import Seen, wander
from trainer.neuralos.encoder import Encoder, EncoderConfig, to_pixels

log = structlog.get_logger()

_POINTER_WEIGHT = 10.0
_POINTER_REACH_PX = 8
_EDGE_WEIGHT = 2.0
_KL_WEIGHT = 1e-5
_START_LOGVAR = -6.0
_STATISTICS_FRAMES = 4_096
_COMPONENT_FRAMES = 2_048
_LOG_EVERY = 50
_SAVE_EVERY = 500


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    """What `train_encoder` is asked for; the learning rate falls by a cosine to a fiftieth."""

    num_steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    warm_up_steps: int = 30
    seed: int = 1


def train_encoder(training: EncoderTraining, folder: Path) -> Encoder:
    """Train from the seed and store in `folder`, with rougher versions on the way there."""
    torch.manual_seed(training.seed)
    config = EncoderConfig()
    encoder = Encoder(config).train()
    rng = random.Random(training.seed)
    frames = wander(rng, width=config.width, height=config.height)
    start_from_components(encoder, list(itertools.islice(frames, _COMPONENT_FRAMES)))
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(training))
    total = 0.0
    for step in range(1, training.num_steps + 1):
        loss = _loss(encoder, list(itertools.islice(frames, training.batch_size)))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % _LOG_EVERY == 0:
            log.info("encoder_trained", step=step, loss=round(total / _LOG_EVERY, 5))
            total = 0.0
        if step % _SAVE_EVERY == 0:
            encoder.save(folder)
    return _frozen(encoder, frames, folder)


@torch.no_grad()
def start_from_components(encoder: Encoder, sample: list[Seen]) -> None:
    """Set the linear path to the patches' whitened principal components, the rest to nothing."""
    pixels = to_pixels(np.stack([seen.frame for seen in sample]))
    patches = functional.pixel_unshuffle(pixels, encoder.config.factor)
    rows = patches.permute(0, 2, 3, 1).flatten(0, 2)
    middle = rows.mean(dim=0)
    covariance = (rows - middle).T @ (rows - middle) / len(rows)
    variances, axes = torch.linalg.eigh(covariance)
    channels = encoder.config.latent_channels
    axes, deviations = axes[:, -channels:].T, variances[-channels:].sqrt()[:, None]
    whitening, colouring = axes / deviations, (axes * deviations).T
    _set(encoder.linear_in, whitening, -whitening @ middle)
    _set(encoder.linear_out, colouring, middle)
    for last in (encoder.autoencoder.quant_conv, encoder.autoencoder.decoder.conv_out):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    encoder.autoencoder.quant_conv.bias[channels:] = _START_LOGVAR


def _set(linear: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    assert linear.bias is not None
    linear.weight.copy_(weight[:, :, None, None])
    linear.bias.copy_(bias)


def _frozen(encoder: Encoder, frames: Iterator[Seen], folder: Path) -> Encoder:
    encoder.eval().requires_grad_(False)
    encoder.round_weights()
    sample = np.stack([seen.frame for seen in itertools.islice(frames, _STATISTICS_FRAMES)])
    latents = torch.from_numpy(encoder.encode(sample))
    encoder.latent_mean.copy_(latents.mean(dim=(0, 2, 3)))
    encoder.latent_std.copy_(latents.std(dim=(0, 2, 3)))
    encoder.save(folder)
    return encoder


def _loss(encoder: Encoder, batch: list[Seen]) -> Tensor:
    pixels = to_pixels(np.stack([seen.frame for seen in batch]))
    mean, logvar = encoder.posterior(pixels)
    deviation = torch.exp(0.5 * logvar)
    rebuilt = encoder.reconstruct(mean + deviation * torch.randn_like(mean))
    kl = 0.5 * (mean.square() + deviation.square() - 1 - logvar).mean()
    difference = rebuilt - pixels
    error = difference.square() + 0.2 * difference.abs()
    weights = _weights(pixels, batch)
    return (error * weights).mean() / weights.mean() + _KL_WEIGHT * kl


def _weights(pixels: Tensor, batch: list[Seen]) -> Tensor:
    """(N, 1, H, W): 1, more on edges, most around the pointer's tip and body."""
    grey = pixels.mean(dim=1, keepdim=True)
    across = functional.pad((grey[..., 1:] - grey[..., :-1]).abs(), (0, 1))
    down = functional.pad((grey[..., 1:, :] - grey[..., :-1, :]).abs(), (0, 0, 0, 1))
    weights = 1 + _EDGE_WEIGHT * (across + down).clamp(max=1)
    height, width = pixels.shape[2:]
    for index, seen in enumerate(batch):
        row = int(seen.y * height / SCREEN_HEIGHT)
        column = int(seen.x * width / SCREEN_WIDTH)
        rows = slice(max(row - 1, 0), row + _POINTER_REACH_PX)
        columns = slice(max(column - 1, 0), column + _POINTER_REACH_PX)
        weights[index, 0, rows, columns] += _POINTER_WEIGHT
    return weights


def _warm_cosine(training: EncoderTraining) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < training.warm_up_steps:
            return (step + 1) / training.warm_up_steps
        share = (step - training.warm_up_steps) / (training.num_steps - training.warm_up_steps)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    return factor
