"""Web pages to pixels: one of four kinds in one of eight hues, which follow from the address.

A page is five scroll steps longer than its viewport.
"""

import colorsys
from typing import Final

from ingest.replay.drawn.browser import MAX_SCROLL, page_number
from ingest.replay.drawn.canvas import Canvas
from ingest.replay.drawn.icons import draw_emblem
from ingest.replay.drawn.layout import Rect
from ingest.replay.drawn.themes import Colour

SCROLL_STEP: Final = 40.0
NUM_HUES: Final = 8

_PAPER: Final[Colour] = (250, 250, 248)
_INK: Final[Colour] = (70, 72, 80)
_FAINT: Final[Colour] = (196, 198, 204)


def draw_page(canvas: Canvas, viewport: Rect, address: str, scroll: int) -> None:
    """Draw what a page shows inside its viewport, scrolled by so many steps."""
    number = page_number(address)
    height = viewport.height + MAX_SCROLL * SCROLL_STEP
    sheet = Rect(viewport.x, viewport.y - scroll * SCROLL_STEP, viewport.width, height)
    if number == 0:
        _start(canvas, sheet)
        return
    hue = (number >> 3) % NUM_HUES / NUM_HUES
    kinds = (_article, _tiles, _map, _listing)
    kinds[number % len(kinds)](canvas, sheet, hue, number)
    header = Rect(sheet.x, sheet.y, sheet.width, 28)
    canvas.fill(header, _tone(hue, 0.75, 0.6))
    canvas.label(
        Rect(header.x + 10, header.y, header.width - 20, 28), (address,), _PAPER, left=True
    )


def _start(canvas: Canvas, sheet: Rect) -> None:
    canvas.fill(sheet, _PAPER)
    middle = sheet.x + sheet.width / 2
    draw_emblem(canvas, "browser", Rect(middle - 28, sheet.y + 34, 56, 56))
    canvas.fill(Rect(middle - 110, sheet.y + 108, 220, 26), _FAINT)
    canvas.fill(Rect(middle - 106, sheet.y + 112, 212, 18), _PAPER)
    for place in range(8):
        x = middle - 118 + (place % 4) * 62
        canvas.fill(
            Rect(x, sheet.y + 160 + (place // 4) * 120, 50, 36), _tone(place / 8, 0.25, 0.9)
        )


def _article(canvas: Canvas, sheet: Rect, hue: float, number: int) -> None:
    canvas.fill(sheet, _PAPER)
    canvas.fill(Rect(sheet.x + 16, sheet.y + 40, 220, 16), _tone(hue, 0.6, 0.4))
    canvas.fill(Rect(sheet.right - 120, sheet.y + 70, 104, 92), _tone(hue + 0.45, 0.55, 0.8))
    for row in range(int((sheet.height - 80) // 16)):
        length = 150 + (number >> (row % 24)) % 5 * 18
        canvas.fill(Rect(sheet.x + 16, sheet.y + 70 + row * 16, length, 6), _INK)


def _tiles(canvas: Canvas, sheet: Rect, hue: float, number: int) -> None:
    canvas.fill(sheet, _tone(hue, 0.12, 0.97))
    width = (sheet.width - 16) / 3
    for place in range(int((sheet.height - 40) // 76) * 3):
        x = sheet.x + 16 + place % 3 * width
        y = sheet.y + 42 + place // 3 * 76
        shade = (number >> (place % 20)) % 4
        canvas.fill(Rect(x, y, width - 16, 60), _tone(hue + 0.08 * shade, 0.6, 0.85 - 0.12 * shade))


def _map(canvas: Canvas, sheet: Rect, hue: float, number: int) -> None:
    canvas.fill(sheet, _tone(hue + 0.3, 0.25, 0.88))
    for place in range(9):
        x = sheet.x + (number >> place) % 97 / 97 * sheet.width
        y = sheet.y + 30 + place * 48
        canvas.disc(Rect(x - 50, y, 120, 60), _tone(hue, 0.45, 0.8))
    for road in range(6):
        y = sheet.y + 50 + road * 78
        bend = (number >> road) % 60
        canvas.line([(sheet.x, y), (sheet.right, y + bend)], _PAPER, 6)
    x = sheet.x + sheet.width * (0.3 + number % 5 / 12)
    canvas.line([(x, sheet.y), (x + 60, sheet.bottom)], (250, 214, 96), 8)


def _listing(canvas: Canvas, sheet: Rect, hue: float, number: int) -> None:
    canvas.fill(sheet, _PAPER)
    for row in range(int((sheet.height - 28) // 44)):
        y = sheet.y + 34 + row * 44
        if row % 2 == 0:
            canvas.fill(Rect(sheet.x, y, sheet.width, 44), _tone(hue, 0.18, 0.95))
        canvas.fill(Rect(sheet.x + 14, y + 6, 32, 32), _tone(hue + row * 0.1, 0.6, 0.75))
        length = 120 + (number >> (row % 20)) % 4 * 36
        canvas.fill(Rect(sheet.x + 60, y + 9, length, 8), _INK)
        canvas.fill(Rect(sheet.x + 60, y + 25, length * 0.7, 6), _FAINT)


def _tone(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
