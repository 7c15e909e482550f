"""The pointer: three bitmaps, the tip at their top left, at least five pixels at every size.

It is yellow with a black edge, so that it stands out on white pages and on the dark sky alike: a
white one was found on 18 % of light windows only after an 8x autoencoder (neuralos.md 7.3).
"""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

FILL: Final = (255, 214, 10)
EDGE: Final = (0, 0, 0)

_TINY: Final = """
#....
##...
#o#..
#oo#.
#ooo#
##o#.
"""

_SMALL: Final = """
#......
##.....
#o#....
#oo#...
#ooo#..
#oooo#.
#ooooo#
#oo####
#o#....
"""

_LARGE: Final = """
#...........
##..........
#o#.........
#oo#........
#ooo#.......
#oooo#......
#ooooo#.....
#oooooo#....
#ooooooo#...
#oooooooo#..
#ooooooooo#.
#oooooooooo#
#oooooo#####
#ooo#oo#....
#oo##oo#....
#o#..#oo#...
##...#oo#...
......#oo#..
......###...
"""


class Pointer:
    """The bitmap for a screen so many pixels wide."""

    def __init__(self, screen_width: int) -> None:
        drawing = _TINY if screen_width < 96 else _SMALL if screen_width < 320 else _LARGE
        self._colours, self._mask = _bitmap(drawing)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._mask.shape[1], self._mask.shape[0]

    def paste(self, frame: NDArray[np.uint8], column: int, row: int) -> None:
        """Draw it into a frame with its tip at a pixel; what leaves the frame is cut."""
        height = min(self._mask.shape[0], frame.shape[0] - row)
        width = min(self._mask.shape[1], frame.shape[1] - column)
        spot = frame[row : row + height, column : column + width]
        np.copyto(spot, self._colours[:height, :width], where=self._mask[:height, :width])


@cache
def _bitmap(drawing: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rows = drawing.split()
    colours = np.array(
        [[FILL if cell == "o" else EDGE for cell in row] for row in rows], dtype=np.uint8
    )
    mask = np.array([[cell != "." for cell in row] for row in rows])
    return colours, mask[:, :, np.newaxis]
