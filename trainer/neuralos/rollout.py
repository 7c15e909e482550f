"""Playing the model: states are carried from an episode's first frame on.

Enters: actions (T, 184) as `windows` lays them out and, for teacher forcing, raw latents of the
true frames. Leaves: raw latents of predicted frames. Three ways, one step each:

predict        the frame before is the true one; only the wanted frames are rendered
autoregress    the frame before is the model's own, never decoded and encoded again
Session        the same for one live player, one action at a time

Noise comes from a generator seeded per call, so that the same model and actions give the same
frames. One DDIM step is the default: more cost time and gain nothing (see `renderer`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.neuralos.encoder import Encoder
from trainer.neuralos.head import NO_POINTER, Moment, actions_before
from trainer.neuralos.model import NeuralOS
from trainer.neuralos.records import ACTION_WIDTH, X
from trainer.neuralos.tracker import TrackerState
from trainer.neuralos.windows import (
    CONTINUES,
    STARTS_PADDING,
    denormalise,
    normalise,
)

_SEED = 0
_EPISODES_AT_ONCE = 32
_FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class Track:
    """One episode as the model reads it: latents (T, C, h, w) raw, actions (T, 184) int16."""

    latents: NDArray[np.float32]
    actions: NDArray[np.int16]


@torch.inference_mode()
def predict(
    model: NeuralOS, tracks: Sequence[Track], wanted: Sequence[Sequence[int]], *, num_steps: int = 1
) -> list[NDArray[np.float32]]:
    """Teacher-forced predictions: per track, raw latents (len(wanted), C, h, w), in that order."""
    model.eval()
    sampling = _Sampling(num_steps)
    order = sorted(range(len(tracks)), key=lambda index: len(tracks[index].actions))
    predicted: dict[int, NDArray[np.float32]] = {}
    for begin in range(0, len(order), _EPISODES_AT_ONCE):
        chosen = order[begin : begin + _EPISODES_AT_ONCE]
        previous, actions = _stacked(model, [tracks[index] for index in chosen])
        starts = _starts(actions)
        states, _ = model.tracker(previous, actions, starts)
        steps = (states, previous, actions, actions_before(actions, starts))
        for row, index in enumerate(chosen):
            frames = torch.as_tensor(wanted[index], dtype=torch.long)
            moment = Moment(*(part[row, frames] for part in steps))
            latents = _rendered(model, moment, sampling)
            predicted[index] = denormalise(latents, model.sizes)
    return [predicted[index] for index in range(len(tracks))]


@torch.inference_mode()
def autoregress(
    model: NeuralOS, actions: NDArray[np.int16], *, num_steps: int = 1
) -> NDArray[np.float32]:
    """First actions (B, T, 184) -> the model's own frames, raw latents (B, T, C, h, w)."""
    model.eval()
    sampling = _Sampling(num_steps)
    taken = torch.from_numpy(np.ascontiguousarray(actions))
    carried = _fresh(model, len(taken))
    frames = []
    for action in taken.unbind(1):
        carried = _advance(model, carried, action, sampling)
        frames.append(carried.frame.numpy())
    return denormalise(np.stack(frames, axis=1), model.sizes)


class Session:
    """One live player's desktop: `step(action) -> frame`, from a fresh desktop on."""

    def __init__(self, model: NeuralOS, encoder: Encoder, *, num_steps: int = 1) -> None:
        if model.sizes.encoder_hash != encoder.hash:
            raise ValueError(
                f"encoder: the model was trained with {model.sizes.encoder_hash},"
                f" this is {encoder.hash}; load the encoder of the model's run"
            )
        self._model = model.eval()
        self._encoder = encoder
        self._num_steps = num_steps
        self.reset()

    def reset(self) -> None:
        """Back to the fresh desktop."""
        self._sampling = _Sampling(self._num_steps)
        self._carried = _fresh(self._model, 1)

    @torch.inference_mode()
    def step(self, action: NDArray[np.int16]) -> NDArray[np.uint8]:
        """One action (184,) -> the frame that the model shows for it, uint8 (H, W, 3)."""
        taken = torch.from_numpy(action)[None]
        self._carried = _advance(self._model, self._carried, taken, self._sampling)
        raw = denormalise(self._carried.frame.numpy(), self._model.sizes)
        return cast(NDArray[np.uint8], self._encoder.decode(raw)[0])


class _Sampling:
    """How latents are drawn, with the noise's own generator."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._generator = torch.Generator().manual_seed(_SEED)

    def draw(self, model: NeuralOS, maps: Tensor) -> Tensor:
        """(N, map_channels, h, w) -> normalised latents (N, C, h, w)."""
        return model.renderer.sample(maps, num_steps=self._num_steps, generator=self._generator)


class _Carried(NamedTuple):
    """What a player takes from one frame to the next, batch first."""

    state: TrackerState
    frame: Tensor  # normalised latents
    action: Tensor


def _fresh(model: NeuralOS, batch_size: int) -> _Carried:
    no_action = torch.zeros(batch_size, ACTION_WIDTH, dtype=torch.int16)
    no_action[:, X] = NO_POINTER
    frame = _padding(model).expand(batch_size, -1, -1, -1)
    return _Carried(model.tracker.start(batch_size, is_padding=True), frame, no_action)


def _advance(model: NeuralOS, carried: _Carried, actions: Tensor, sampling: _Sampling) -> _Carried:
    """One step of a batch, actions (B, 184)."""
    state, frame, before = carried
    continues = torch.full((len(actions), 1), CONTINUES)
    states, state = model.tracker.run(state, frame[:, None], actions[:, None], continues)
    maps = model.tracker.render_map(Moment(states[:, 0], frame, actions, before))
    return _Carried(state, sampling.draw(model, maps), actions)


def _rendered(model: NeuralOS, moment: Moment, sampling: _Sampling) -> NDArray[np.float32]:
    parts = [np.zeros((0, *model.sizes.latent_shape), np.float32)]
    for begin in range(0, len(moment.states), _FRAMES_AT_ONCE):
        part = slice(begin, begin + _FRAMES_AT_ONCE)
        maps = model.tracker.render_map(Moment(*(field[part] for field in moment)))
        parts.append(sampling.draw(model, maps).numpy())
    return np.concatenate(parts)


def _stacked(model: NeuralOS, tracks: Sequence[Track]) -> tuple[Tensor, Tensor]:
    """Frames before (B, T, C, h, w), normalised, and actions (B, T, 184); zero after the ends."""
    longest = max(len(track.actions) for track in tracks)
    previous = np.zeros((len(tracks), longest, *model.sizes.latent_shape), np.float32)
    actions = np.zeros((len(tracks), longest, ACTION_WIDTH), np.int16)
    for row, track in enumerate(tracks):
        previous[row, : len(track.latents)] = _frames_before(model, track)
        actions[row, : len(track.actions)] = track.actions
    return torch.from_numpy(previous), torch.from_numpy(actions)


def _frames_before(model: NeuralOS, track: Track) -> NDArray[np.float32]:
    padding = np.zeros((1, *model.sizes.latent_shape), np.float32)
    return normalise(np.concatenate([padding, track.latents[:-1]]), model.sizes)


def _starts(actions: Tensor) -> Tensor:
    starts = torch.full(actions.shape[:2], CONTINUES)
    starts[:, 0] = STARTS_PADDING
    return starts


def _padding(model: NeuralOS) -> Tensor:
    zeros = np.zeros((1, *model.sizes.latent_shape), np.float32)
    return torch.from_numpy(normalise(zeros, model.sizes))
