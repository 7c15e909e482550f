"""The training batch: windows of stored records become the tensors of `NeuralOS.forward`.

Enters (numpy, from the stream): for each drawn sample up to L consecutive records of its episode,
right-aligned, the last being the sample's own frame:

latents         (B, L, C, h, w) float32, raw, zero before the first valid record
actions         (B, L, 184) int16: x, y, left, right, is_change, 179 held keys; logical 512x384
num_valid       (B,) how many of the last records are real
starts_episode  (B,) whether the first real record is the episode's frame 0
sample_numbers  (B,) int64

Alignment (neuralos.md 2.3): step t sees the frame before (t-1) and action t and predicts frame t.
Where the window opens inside an episode its first record serves only as a frame before, and the
tracker starts from its *unknown* state; at frame 0 it starts from *padding*, with a zero frame.

Guaranteed: which frames are supervised depends on the sample number and the window's actions
alone. The target always is; the others are drawn without replacement, changes nearly always first
and a click or key 8 times as likely as an idle frame, for these are where the screen has to be
decided (with changes 8 times as likely, 1 in 10 supervised frames was one, now it is 1 in 4.6, and
200 steps on new tasks taught what 500 had not).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.records import FIRST_KEY, IS_CHANGE, LEFT, RIGHT

CONTINUES, STARTS_UNKNOWN, STARTS_PADDING = 0, 1, 2

_CHANGE_WEIGHT = 200.0
_INPUT_WEIGHT = 8.0
_WARM_UP_STEPS = 4


@dataclass(frozen=True)
class Steps:
    """Where each window's steps lie: `first` (B,) is the first step's index, `starts` (B, L)."""

    first: NDArray[np.int64]
    starts: NDArray[np.int64]


def collate(batch: Mapping[str, NDArray[Any]], config: ModelConfig) -> dict[str, Tensor]:
    """One numpy batch -> `previous`, `actions`, `starts`, `targets`, `supervised`, `weights`.

    previous (B, L, C, h, w) and targets (B, K, C, h, w) are normalised; actions (B, L, 184) int16;
    starts (B, L) int64; supervised (B, K) int64 indexes steps; weights (B, K) is 0 where a window
    has fewer than K frames to learn from. Raises ValueError when a window holds no step.
    """
    steps = _steps(batch["num_valid"], batch["starts_episode"], length=batch["actions"].shape[1])
    supervised, weights = _supervised(batch, steps, config.num_supervised)
    normalised = _normalised(batch["latents"], config)
    rows = np.arange(len(supervised))[:, None]
    return {
        "previous": torch.from_numpy(_frames_before(normalised, steps, config)),
        "actions": torch.from_numpy(np.ascontiguousarray(batch["actions"])),
        "starts": torch.from_numpy(steps.starts),
        "targets": torch.from_numpy(normalised[rows, supervised]),
        "supervised": torch.from_numpy(supervised),
        "weights": torch.from_numpy(weights),
    }


def normalise(latents: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    """Raw latents (..., C, h, w) by the encoder's per-channel statistics (neuralos.md 3.2)."""
    return (latents - _per_channel(config.latent_mean)) / _per_channel(config.latent_std)


def denormalise(latents: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    """The inverse of `normalise`."""
    return latents * _per_channel(config.latent_std) + _per_channel(config.latent_mean)


def _per_channel(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)[:, None, None]


def _normalised(latents: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    if latents.shape[2:] != config.latent_shape:
        raise ValueError(f"latents: {latents.shape[2:]} is not the model's {config.latent_shape}")
    return normalise(latents, config)


def _steps(num_valid: NDArray[Any], starts_episode: NDArray[Any], *, length: int) -> Steps:
    first = length - num_valid.astype(np.int64) + np.where(starts_episode, 0, 1)
    if (first >= length).any():
        raise ValueError("num_valid: a window inside an episode needs two records or more")
    starts = np.full((len(first), length), CONTINUES, np.int64)
    kinds = np.where(starts_episode, STARTS_PADDING, STARTS_UNKNOWN)
    starts[np.arange(len(first)), first] = kinds
    return Steps(first, starts)


def _frames_before(
    latents: NDArray[np.float32], steps: Steps, config: ModelConfig
) -> NDArray[np.float32]:
    padding = normalise(np.zeros(config.latent_shape, np.float32), config)
    before = np.concatenate([np.zeros_like(latents[:, :1]), latents[:, :-1]], axis=1)
    at_padding = steps.starts == STARTS_PADDING
    before[at_padding] = padding
    return before


def _supervised(
    batch: Mapping[str, NDArray[Any]], steps: Steps, num_supervised: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    actions = batch["actions"]
    num_windows, length = actions.shape[:2]
    positions = np.arange(length)
    is_padding_start = batch["starts_episode"].astype(bool)
    warm_up = np.where(is_padding_start, 0, _WARM_UP_STEPS)
    allowed = positions >= (steps.first + warm_up)[:, None]
    allowed[:, -1] = True

    uniform = _hashed_uniform(batch["sample_numbers"].astype(np.uint64), length)
    score = np.where(allowed, np.log(uniform) / _preference(actions), -np.inf)
    score[:, -1] = np.inf
    supervised = np.argsort(-score, axis=1, kind="stable")[:, :num_supervised].astype(np.int64)
    rows = np.arange(num_windows)[:, None]
    is_usable = np.isfinite(score[rows, supervised]) | (supervised == length - 1)
    return np.where(is_usable, supervised, length - 1), is_usable.astype(np.float32)


def _preference(actions: NDArray[np.int16]) -> NDArray[np.float64]:
    """Weights of a weighted draw without replacement by log(u) / w (Efraimidis, Spirakis 2006)."""
    held = actions[:, :, FIRST_KEY:]
    keys_moved = np.zeros(actions.shape[:2], bool)
    keys_moved[:, 1:] = (held[:, 1:] != held[:, :-1]).any(axis=2)
    has_input = keys_moved | (actions[:, :, LEFT] != 0) | (actions[:, :, RIGHT] != 0)
    is_change = actions[:, :, IS_CHANGE] != 0
    return np.where(is_change, _CHANGE_WEIGHT, np.where(has_input, _INPUT_WEIGHT, 1.0))


def _hashed_uniform(numbers: NDArray[np.uint64], length: int) -> NDArray[np.float64]:
    """(B, L) in (0, 1), by splitmix64 of sample number and position."""
    positions = np.arange(length, dtype=np.uint64)
    mixed: NDArray[np.uint64] = np.multiply(numbers[:, None], np.uint64(length)) + positions
    mixed = np.multiply(mixed + np.uint64(1), np.uint64(0x9E3779B97F4A7C15))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = np.multiply(mixed ^ np.right_shift(mixed, np.uint64(shift)), np.uint64(factor))
    mixed = np.right_shift(mixed ^ np.right_shift(mixed, np.uint64(31)), np.uint64(11))
    return (mixed.astype(np.float64) + 0.5) / float(1 << 53)
