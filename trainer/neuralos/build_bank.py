"""Windows drawn from memory, for building the base model away from buffer and database.

The same arrays as the stream delivers (`windows`), from tracks held in RAM; half of the draws have
a structural change within their window, as a slice's two lanes give a run.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.neuralos.records import ACTION_WIDTH, IS_CHANGE
from trainer.neuralos.rollout import Track


class Bank:
    """Tracks with an index of their frames by lane."""

    def __init__(self, tracks: Sequence[Track], *, window: int) -> None:
        self._tracks = tracks
        self._window = window
        lanes: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for number, track in enumerate(tracks):
            for frame in range(len(track.actions)):
                recent = track.actions[max(frame - window + 1, 0) : frame + 1, IS_CHANGE]
                lanes[int(recent.any())].append((number, frame))
        self._lanes = [np.array(lane, np.int64).reshape(-1, 2) for lane in lanes if lane]

    def draw(self, rng: np.random.Generator, num_windows: int) -> dict[str, NDArray[Any]]:
        """A batch of `num_windows`, the lanes in turn."""
        shape = self._tracks[0].latents.shape[1:]
        batch: dict[str, NDArray[Any]] = {
            "latents": np.zeros((num_windows, self._window, *shape), np.float32),
            "actions": np.zeros((num_windows, self._window, ACTION_WIDTH), np.int16),
            "num_valid": np.zeros(num_windows, np.int64),
            "starts_episode": np.zeros(num_windows, bool),
            "sample_numbers": rng.integers(0, 1 << 40, num_windows),
        }
        for row in range(num_windows):
            lane = self._lanes[(row + int(rng.integers(2))) % len(self._lanes)]
            number, frame = lane[rng.integers(len(lane))]
            self._fill(batch, row, self._tracks[number], int(frame))
        return batch

    def _fill(self, batch: dict[str, NDArray[Any]], row: int, track: Track, frame: int) -> None:
        first = max(frame - self._window + 1, 0)
        num_valid = frame + 1 - first
        batch["latents"][row, -num_valid:] = track.latents[first : frame + 1]
        batch["actions"][row, -num_valid:] = track.actions[first : frame + 1]
        batch["num_valid"][row] = num_valid
        batch["starts_episode"][row] = first == 0


def joined(batches: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Several draws as one batch."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
