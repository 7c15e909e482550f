"""Where things lie on the drawn desktop and how they are coloured.

All coordinates are logical pixels of a 512x384 screen. The standard layout has the four icons where
the real desktop has them, and windows that leave the icon columns usable: real users go on to
double click icons and to right click the middle of the desktop while windows are open.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from ingest.replay.drawn.themes import STANDARD_THEME, Theme, varied_theme

App: TypeAlias = Literal["browser", "folder", "home", "terminal", "trash"]

NAMES: Final[Mapping[App, str]] = {
    "trash": "Trash",
    "home": "Home",
    "terminal": "Terminal",
    "browser": "Firefox",
    "folder": "Folder",
}
"""What an app's icon and window are called; a folder's carry its own name."""

TITLE_HEIGHT: Final = 16
CLOSE_WIDTH: Final = 20
ICON_HALF: Final = 21
LABEL_HEIGHT: Final = 18


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle in logical pixels; the right and the lower edge are outside."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The first column outside."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The first row outside."""
        return self.y + self.height

    def contains(self, x: float, y: float) -> bool:
        """Whether a point lies inside."""
        return self.x <= x < self.right and self.y <= y < self.bottom

    def grown(self, margin: float) -> "Rect":
        """The same with a margin on all sides."""
        return Rect(
            self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin
        )

    def overlaps(self, other: "Rect") -> bool:
        """Whether the two share a point."""
        return (
            self.x < other.right
            and other.x < self.right
            and self.y < other.bottom
            and other.y < self.bottom
        )


def icon_rect(x: float, y: float) -> Rect:
    """Where an icon centred at (x, y) takes clicks: its picture and its label."""
    return Rect(x - ICON_HALF, y - ICON_HALF, 2 * ICON_HALF, 2 * ICON_HALF + LABEL_HEIGHT)


_ICONS: Final[Mapping[App, tuple[float, float]]] = {
    "trash": (67, 45),
    "home": (67, 172),
    "terminal": (67, 295),
    "browser": (190, 45),
}

_WINDOWS: Final[Mapping[App, Rect]] = {
    "terminal": Rect(226, 220, 280, 152),
    "home": Rect(386, 20, 118, 188),
    "trash": Rect(250, 12, 130, 116),
    "folder": Rect(292, 140, 172, 116),
    "browser": Rect(124, 51, 380, 292),
}

_GRID: Final = tuple((x, y) for x in (67, 190, 313, 436) for y in (45, 172, 295))
_BETWEEN: Final = tuple((x, y) for x in (190, 313, 436) for y in (108, 235))


@dataclass(frozen=True)
class Layout:
    """Where icons begin, where each app's window opens, where new folders go, and the colours."""

    icons: Mapping[App, tuple[float, float]]
    windows: Mapping[App, Rect]
    cells: tuple[tuple[float, float], ...]
    dialog: Rect
    theme: Theme

    @classmethod
    def standard(cls) -> Self:
        """The desktop that everybody uses; people's logs are aimed at it."""
        return cls(_ICONS, _WINDOWS, _GRID + _BETWEEN, Rect(166, 124, 180, 88), STANDARD_THEME)

    @classmethod
    def varied(cls, rng: random.Random) -> Self:
        """A desktop with random places and colours, for an encoder that must know more than one."""
        spots = rng.sample(_GRID, len(_ICONS))
        icons = {
            app: (x + rng.uniform(-14, 14), y + rng.uniform(-14, 14))
            for app, (x, y) in zip(_ICONS, spots, strict=True)
        }
        windows = {app: _varied_window(rng, rect) for app, rect in _WINDOWS.items()}
        cells = tuple(rng.sample(_GRID + _BETWEEN, len(_GRID) + len(_BETWEEN)))
        dialog = Rect(rng.uniform(20, 312), rng.uniform(20, 276), 180, 88)
        return cls(icons, windows, cells, dialog, varied_theme(rng))


def _varied_window(rng: random.Random, usual: Rect) -> Rect:
    width = min(usual.width * rng.uniform(0.8, 1.3), SCREEN_WIDTH - 16)
    height = min(usual.height * rng.uniform(0.8, 1.3), SCREEN_HEIGHT - 16)
    x = rng.uniform(0, SCREEN_WIDTH - width)
    return Rect(x, rng.uniform(0, SCREEN_HEIGHT - height), width, height)
