"""A picture that is drawn on in logical coordinates (512x384), whatever size it really has.

Edges are rounded each by itself, so that neighbours touch and never overlap at any size.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image, ImageDraw

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from ingest.replay.drawn.layout import Rect
from ingest.replay.drawn.text import Lettering
from ingest.replay.drawn.themes import Colour


class Canvas:
    """Shapes and text on a picture, whose top left pixel is `origin` on the screen."""

    def __init__(
        self,
        picture: Image.Image,
        lettering: Lettering,
        scale: tuple[float, float],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.picture = picture
        self.lettering = lettering
        self._scale = scale
        self._origin = origin
        self._draw = ImageDraw.Draw(picture)

    @classmethod
    def of_screen(cls, picture: Image.Image, lettering: Lettering) -> "Canvas":
        """A canvas over a whole screen."""
        scale = (picture.width / SCREEN_WIDTH, picture.height / SCREEN_HEIGHT)
        return cls(picture, lettering, scale)

    def column(self, x: float) -> int:
        """The picture's pixel column of a logical x."""
        return math.floor(x * self._scale[0] + 0.5) - self._origin[0]

    def row(self, y: float) -> int:
        """The picture's pixel row of a logical y."""
        return math.floor(y * self._scale[1] + 0.5) - self._origin[1]

    def size(self, rect: Rect) -> tuple[int, int]:
        """How many pixels wide and high a rectangle is drawn."""
        return (
            self.column(rect.right) - self.column(rect.x),
            self.row(rect.bottom) - self.row(rect.y),
        )

    def fill(self, rect: Rect, colour: Colour) -> None:
        """Fill a rectangle; one that is thinner than a pixel still gets one."""
        left, top = self.column(rect.x), self.row(rect.y)
        right = max(self.column(rect.right) - 1, left)
        self._draw.rectangle((left, top, right, max(self.row(rect.bottom) - 1, top)), fill=colour)

    def frame(self, rect: Rect, colour: Colour, margin: int = 0) -> None:
        """Outline a rectangle by one pixel, on its edge or so many pixels around it."""
        left, top = self.column(rect.x) - margin, self.row(rect.y) - margin
        right = self.column(rect.right) - 1 + margin
        bottom = self.row(rect.bottom) - 1 + margin
        if right >= left and bottom >= top:
            self._draw.rectangle((left, top, right, bottom), outline=colour)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(self.column(x), self.row(y)) for x, y in points], fill=colour)

    def disc(self, rect: Rect, colour: Colour) -> None:
        """Fill the ellipse inside a rectangle."""
        left, top = self.column(rect.x), self.row(rect.y)
        right, bottom = self.column(rect.right) - 1, self.row(rect.bottom) - 1
        self._draw.ellipse((left, top, max(right, left), max(bottom, top)), fill=colour)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        """A line so many logical pixels wide, one real pixel at least."""
        pixels = max(round(width * self._scale[1]), 1)
        self._draw.line(
            [(self.column(x), self.row(y)) for x, y in points], fill=colour, width=pixels
        )

    def write(self, x: int, y: int, text: str, colour: Colour) -> None:
        """Write with the text's top left corner at a pixel of the picture."""
        self.lettering.write(self.picture, x, y, text, colour)

    def mark(self, x: int, y: int, height: int, colour: Colour) -> None:
        """A caret: one pixel wide, at pixels of the picture."""
        self._draw.rectangle((x, y, x, y + height - 1), fill=colour)

    def label(
        self, rect: Rect, texts: Sequence[str], colour: Colour, *, left: bool = False
    ) -> None:
        """Write the first text that fits into a rectangle, in its middle or at its left."""
        font = self.lettering.font
        width, height = self.size(rect)
        if height < font.height:
            return
        text = self.lettering.fitting(texts, width)
        space = 0 if left else (width - self.lettering.width(text)) // 2
        y = self.row(rect.y) + (height - font.height + 1) // 2
        self.write(self.column(rect.x) + space, y, text, colour)

    @contextmanager
    def clipped(self, rect: Rect) -> Iterator["Canvas"]:
        """A canvas for a part of this one: what is drawn past its edges does not show."""
        width, height = self.size(rect)
        left, top = self.column(rect.x), self.row(rect.y)
        part = self.picture.crop((left, top, left + max(width, 1), top + max(height, 1)))
        origin = (self._origin[0] + left, self._origin[1] + top)
        yield Canvas(part, self.lettering, self._scale, origin)
        self.picture.paste(part, (left, top))
