"""A scene to pixels, natively at the asked size: nothing is drawn large and shrunk.

Decision: recent scenes are kept (8 of them), for most ticks move only the pointer; a frame is then
a copy of the kept picture with the pointer pasted in.
"""

import math
from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from ingest.replay.drawn.canvas import Canvas
from ingest.replay.drawn.icons import draw_icon
from ingest.replay.drawn.pointer import Pointer
from ingest.replay.drawn.scene import Scene
from ingest.replay.drawn.text import Lettering, font_for
from ingest.replay.drawn.themes import Colour, Theme
from ingest.replay.drawn.windows import draw_dialog, draw_menu, draw_window

NUM_KEPT_SCENES: Final = 8


class Painter:
    """Draws scenes of one theme at one size."""

    def __init__(self, width: int, height: int, theme: Theme) -> None:
        self._theme = theme
        self._sky = _sky(width, height, theme.sky_top, theme.sky_bottom)
        self._lettering = Lettering(font_for(height))
        self._pointer = Pointer(width)
        self._scale = (width / SCREEN_WIDTH, height / SCREEN_HEIGHT)
        self._kept: OrderedDict[Scene, NDArray[np.uint8]] = OrderedDict()
        self._last: tuple[Scene, NDArray[np.uint8]] | None = None

    def frame(self, scene: Scene, x: float, y: float) -> NDArray[np.uint8]:
        """The scene, pointer at a logical point: uint8 RGB (height, width, 3), a new array."""
        frame = self._picture(scene).copy()
        column = min(math.floor(x * self._scale[0]), frame.shape[1] - 1)
        row = min(math.floor(y * self._scale[1]), frame.shape[0] - 1)
        self._pointer.paste(frame, column, row)
        return frame

    def _picture(self, scene: Scene) -> NDArray[np.uint8]:
        if self._last is not None and self._last[0] is scene:
            return self._last[1]
        picture = self._kept.get(scene)
        if picture is None:
            picture = self._kept[scene] = self._drawn(scene)
        self._kept.move_to_end(scene)
        if len(self._kept) > NUM_KEPT_SCENES:
            self._kept.popitem(last=False)
        self._last = (scene, picture)
        return picture

    def _drawn(self, scene: Scene) -> NDArray[np.uint8]:
        canvas = Canvas.of_screen(self._sky.copy(), self._lettering)
        for icon in scene.icons:
            draw_icon(canvas, icon, self._theme, is_selected=icon.name == scene.selected)
        for window in scene.windows:
            draw_window(canvas, window, self._theme, is_focused=window is scene.top)
        if scene.menu is not None:
            draw_menu(canvas, scene.menu, self._theme)
        if scene.dialog is not None:
            draw_dialog(canvas, scene.dialog, self._theme)
        return np.asarray(canvas.picture, dtype=np.uint8)


def _sky(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    share = np.linspace(0.0, 1.0, height)[:, np.newaxis]
    rows = np.array(top) * (1 - share) + np.array(bottom) * share
    pixels = np.repeat(rows.round().astype(np.uint8)[:, np.newaxis, :], width, axis=1)
    return Image.fromarray(pixels)
