"""Where the pointer is in a frame, found by exhaustive template search.

In: frames of one size. Out: the tip in logical pixels: the place at which the pointer's bitmap fits
best (least squared error). The tip may lie anywhere that shows the bitmap whole.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from ingest.replay.drawn.pointer import Pointer


class PointerFinder:
    """Finds the pointer in frames `width` x `height`."""

    def __init__(self, width: int, height: int) -> None:
        pointer = Pointer(width)
        columns, rows = pointer.size
        on_black = np.zeros((rows, columns, 3), np.uint8)
        on_grey = np.full((rows, columns, 3), 99, np.uint8)
        pointer.paste(on_black, 0, 0)
        pointer.paste(on_grey, 0, 0)
        self._mask = (on_black == on_grey).all(axis=2)
        self._colours = on_black[self._mask].astype(np.float32)
        self._shape = rows, columns
        self._width, self._height = width, height
        self._scale = np.array([SCREEN_WIDTH / width, SCREEN_HEIGHT / height])

    def shows_whole(self, actions: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Which actions (N, 184) put the pointer where all of it is on the screen."""
        rows, columns = self._shape
        last = (np.array([self._width - columns, self._height - rows])) * self._scale
        whole: NDArray[np.bool_] = (actions[:, :2] <= last).all(axis=1)
        return whole

    def find(self, frame: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The tip in one frame (H, W, 3): logical x and y."""
        places = sliding_window_view(frame, self._shape, axis=(0, 1))
        shown = np.moveaxis(places, 2, -1)[:, :, self._mask].astype(np.float32)
        error = np.square(shown - self._colours).sum(axis=(2, 3))
        row, column = np.unravel_index(int(error.argmin()), error.shape)
        tip: NDArray[np.float64] = np.array([column, row]) * self._scale
        return tip


def pointer_error(
    finder: PointerFinder, frames: NDArray[np.uint8], actions: NDArray[np.int16]
) -> float:
    """Mean distance in logical pixels between the pointer found and where the action put it."""
    found = np.stack([finder.find(frame) for frame in frames])
    return float(np.hypot(*(found - actions[:, :2]).T).mean())
