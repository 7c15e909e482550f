"""The icons' pictures: each app a shape and a colour of its own, that hold at 10x10 pixels too."""

from ingest.replay.drawn.canvas import Canvas
from ingest.replay.drawn.layout import ICON_HALF, LABEL_HEIGHT, App, Rect
from ingest.replay.drawn.scene import Icon
from ingest.replay.drawn.themes import Colour, Theme

_STEEL: Colour = (168, 182, 190)
_STEEL_DARK: Colour = (88, 102, 112)
_ROOF: Colour = (214, 92, 70)
_WALL: Colour = (238, 224, 196)
_DOOR: Colour = (122, 82, 54)
_SCREEN: Colour = (10, 12, 14)
_RIM: Colour = (190, 194, 200)
_GREEN: Colour = (96, 230, 96)
_FOX: Colour = (255, 138, 28)
_GLOBE: Colour = (88, 60, 196)
_FOLDER: Colour = (246, 200, 82)
_FOLDER_DARK: Colour = (206, 156, 46)


def draw_icon(canvas: Canvas, icon: Icon, theme: Theme, *, is_selected: bool) -> None:
    """Draw an icon with its name below, on a highlight where it is selected."""
    if is_selected:
        canvas.fill(icon.rect, theme.highlight)
    draw_emblem(canvas, icon.app, Rect(icon.x - 18, icon.y - 18, 36, 36))
    width = 126
    name = Rect(icon.x - width / 2, icon.y + ICON_HALF, width, LABEL_HEIGHT + 6)
    canvas.label(name, (icon.name,), theme.icon_text)


def draw_emblem(canvas: Canvas, app: App, box: Rect) -> None:
    """Draw an app's picture into a square box of any size."""
    match app:
        case "trash":
            _trash(canvas, box)
        case "home":
            _home(canvas, box)
        case "terminal":
            _terminal(canvas, box)
        case "browser":
            _browser(canvas, box)
        case "folder":
            _folder(canvas, box)


def _part(box: Rect, left: float, top: float, right: float, bottom: float) -> Rect:
    return Rect(
        box.x + left * box.width,
        box.y + top * box.height,
        (right - left) * box.width,
        (bottom - top) * box.height,
    )


def _trash(canvas: Canvas, box: Rect) -> None:
    canvas.fill(_part(box, 0.38, 0.0, 0.62, 0.12), _STEEL_DARK)
    canvas.fill(_part(box, 0.1, 0.1, 0.9, 0.24), _STEEL)
    canvas.fill(_part(box, 0.18, 0.3, 0.82, 1.0), _STEEL)
    for left in (0.3, 0.46, 0.62):
        canvas.fill(_part(box, left, 0.4, left + 0.08, 0.9), _STEEL_DARK)


def _home(canvas: Canvas, box: Rect) -> None:
    x, y, size = box.x, box.y, box.width
    canvas.fill(_part(box, 0.14, 0.45, 0.86, 1.0), _WALL)
    roof = [(x + size / 2, y), (x + size, y + size * 0.52), (x, y + size * 0.52)]
    canvas.polygon(roof, _ROOF)
    canvas.fill(_part(box, 0.4, 0.62, 0.62, 1.0), _DOOR)


def _terminal(canvas: Canvas, box: Rect) -> None:
    canvas.fill(_part(box, 0.0, 0.06, 1.0, 0.94), _RIM)
    canvas.fill(_part(box, 0.06, 0.12, 0.94, 0.88), _SCREEN)
    x, y, size = box.x, box.y, box.width
    corner = [(0.2, 0.28), (0.42, 0.46), (0.2, 0.64)]
    canvas.line([(x + a * size, y + b * size) for a, b in corner], _GREEN, size / 12)
    canvas.fill(_part(box, 0.5, 0.64, 0.8, 0.74), _GREEN)


def _browser(canvas: Canvas, box: Rect) -> None:
    canvas.disc(_part(box, 0.0, 0.0, 1.0, 1.0), _FOX)
    canvas.disc(_part(box, 0.26, 0.28, 0.84, 0.84), _GLOBE)
    x, y, size = box.x, box.y, box.width
    ear = [
        (x + 0.5 * size, y),
        (x + 0.98 * size, y + 0.3 * size),
        (x + 0.55 * size, y + 0.3 * size),
    ]
    canvas.polygon(ear, (255, 204, 64))


def _folder(canvas: Canvas, box: Rect) -> None:
    canvas.fill(_part(box, 0.0, 0.14, 0.46, 0.34), _FOLDER_DARK)
    canvas.fill(_part(box, 0.0, 0.24, 1.0, 0.9), _FOLDER)
    canvas.fill(_part(box, 0.0, 0.34, 1.0, 0.4), _FOLDER_DARK)
