"""Text at three sizes: Pillow's built-in 6x11 bitmap font, our 3x5 one, else bars.

All are bitmaps, so that text is the same on every machine; the screen's height decides which is
used: from 288 rows the first, from 80 the second.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Protocol

from PIL import Image, ImageDraw, ImageFont

from ingest.replay.drawn.glyphs import GLYPH_HEIGHT, GLYPH_WIDTH, GLYPHS

LARGE_FROM_ROWS: Final = 288
SMALL_FROM_ROWS: Final = 80


class Font(Protocol):
    """A fixed-width font: the pixels a character advances, its height, and a line's height."""

    advance: int
    height: int
    line: int

    def mask(self, text: str) -> Image.Image:
        """The text's pixels, as a mode "1" picture."""
        ...


class LargeFont:
    """Pillow's built-in bitmap font."""

    advance, height, line = 6, 11, 13

    def __init__(self) -> None:
        self._font = ImageFont.load_default_imagefont()

    def mask(self, text: str) -> Image.Image:
        """The text's pixels; what the font lacks becomes a question mark."""
        picture = Image.new("1", (max(len(text), 1) * self.advance, self.height))
        words = text.encode("ascii", "replace").decode("ascii")
        ImageDraw.Draw(picture).text((0, 0), words, fill=1, font=self._font)
        return picture


class SmallFont:
    """The 3x5 font, one column between characters."""

    advance, height, line = GLYPH_WIDTH + 1, GLYPH_HEIGHT, GLYPH_HEIGHT + 1

    def mask(self, text: str) -> Image.Image:
        """The text's pixels; what the font lacks becomes a question mark."""
        picture = Image.new("1", (max(len(text), 1) * self.advance, self.height))
        for place, character in enumerate(text):
            for y, digit in enumerate(GLYPHS.get(character, GLYPHS["?"])):
                for x in range(GLYPH_WIDTH):
                    if int(digit, 8) >> (GLYPH_WIDTH - 1 - x) & 1:
                        picture.putpixel((place * self.advance + x, y), 1)
        return picture


class BarFont:
    """One pixel a character: where a text is and how long, not what it says."""

    advance, height, line = 1, 1, 2

    def mask(self, text: str) -> Image.Image:
        """A pixel for each character that is no space."""
        picture = Image.new("1", (max(len(text), 1), 1))
        for x, character in enumerate(text):
            picture.putpixel((x, 0), int(character != " "))
        return picture


def font_for(height: int) -> Font:
    """The font for a screen of so many rows."""
    if height >= LARGE_FROM_ROWS:
        return LargeFont()
    return SmallFont() if height >= SMALL_FROM_ROWS else BarFont()


class Lettering:
    """Writes on pictures in one font; masks of recent texts are kept."""

    def __init__(self, font: Font) -> None:
        self.font = font
        self._mask = lru_cache(maxsize=512)(font.mask)

    def write(
        self, picture: Image.Image, x: int, y: int, text: str, colour: tuple[int, int, int]
    ) -> None:
        """Write with the text's top left corner at pixel (x, y)."""
        if text:
            picture.paste(colour, (x, y), self._mask(text))

    def width(self, text: str) -> int:
        """The pixels that a text takes, the gap after it left aside."""
        return max(len(text) * self.font.advance - int(self.font.advance > 1), 0)

    def fitting(self, texts: Iterable[str], width: int) -> str:
        """The first text that fits into so many pixels, else the last one cut to fit."""
        text = ""
        for text in texts:
            if self.width(text) <= width:
                return text
        return text[: max((width + 1) // self.font.advance, 0)]

    def tail(self, text: str, width: int) -> str:
        """The end of a text, as much as fits: what is being typed must be seen."""
        return text[-max((width + 1) // self.font.advance, 1) :]
