"""What the screen shows, but for the pointer: immutable values, so that a copy costs nothing.

Two scenes that are equal look the same at every size; the drawing is cached by that.
"""

from dataclasses import dataclass, replace
from typing import Final

from ingest.replay.drawn.browser import Browser
from ingest.replay.drawn.folder import FolderView
from ingest.replay.drawn.layout import (
    CLOSE_WIDTH,
    NAMES,
    TITLE_HEIGHT,
    App,
    Layout,
    Rect,
    icon_rect,
)
from ingest.replay.drawn.terminal import Terminal

Content = Terminal | Browser | FolderView

MENU_WIDTH: Final = 128
MENU_PADDING: Final = 6
MENU_ITEM_HEIGHT: Final = 24
MENU_ITEMS: Final = (("Open Terminal", "Terminal"), ("Create Folder", "Folder"), ("Paste",))
"""Each item's words, longest first: the drawing takes the first that fits."""


@dataclass(frozen=True, slots=True)
class Icon:
    """An icon centred at (x, y); double clicking it opens `app`, a folder's under its own name."""

    name: str
    app: App
    x: float
    y: float

    @property
    def rect(self) -> Rect:
        """Where it takes clicks."""
        return icon_rect(self.x, self.y)


@dataclass(frozen=True, slots=True)
class Window:
    """An open window; `title` tells the folder view's folder."""

    app: App
    title: str
    rect: Rect
    content: Content

    @property
    def title_bar(self) -> Rect:
        """The bar along the top, close button included."""
        return Rect(self.rect.x, self.rect.y, self.rect.width, TITLE_HEIGHT)

    @property
    def close_button(self) -> Rect:
        """The title bar's right end."""
        return Rect(self.rect.right - CLOSE_WIDTH, self.rect.y, CLOSE_WIDTH, TITLE_HEIGHT)

    @property
    def body(self) -> Rect:
        """What is below the title bar."""
        rect = self.rect
        return Rect(rect.x, rect.y + TITLE_HEIGHT, rect.width, rect.height - TITLE_HEIGHT)


@dataclass(frozen=True, slots=True)
class Menu:
    """The desktop's context menu, its top left corner at (x, y)."""

    x: float
    y: float

    @property
    def rect(self) -> Rect:
        """The whole menu."""
        height = 2 * MENU_PADDING + len(MENU_ITEMS) * MENU_ITEM_HEIGHT
        return Rect(self.x, self.y, MENU_WIDTH, height)

    def item(self, index: int) -> Rect:
        """Where one item takes clicks: it spans the menu's width."""
        y = self.y + MENU_PADDING + index * MENU_ITEM_HEIGHT
        return Rect(self.x, y, MENU_WIDTH, MENU_ITEM_HEIGHT)


@dataclass(frozen=True, slots=True)
class Dialog:
    """The dialog that asks a new folder's name."""

    rect: Rect
    text: str = ""

    @property
    def field(self) -> Rect:
        """Where the name is typed."""
        return Rect(self.rect.x + 10, self.rect.y + 22, self.rect.width - 20, 26)

    @property
    def create_button(self) -> Rect:
        """The left button."""
        return Rect(self.rect.x + 10, self.rect.bottom - 34, 74, 26)

    @property
    def cancel_button(self) -> Rect:
        """The right button."""
        return Rect(self.rect.right - 84, self.rect.bottom - 34, 74, 26)


@dataclass(frozen=True, slots=True)
class Scene:
    """Icons and windows, the last on top; the topmost window has the focus."""

    icons: tuple[Icon, ...]
    selected: str | None = None
    windows: tuple[Window, ...] = ()
    menu: Menu | None = None
    dialog: Dialog | None = None

    @classmethod
    def fresh(cls, layout: Layout) -> "Scene":
        """Nothing open, the layout's icons in their places."""
        return cls(tuple(Icon(NAMES[app], app, x, y) for app, (x, y) in layout.icons.items()))

    @property
    def top(self) -> Window | None:
        """The focused window."""
        return self.windows[-1] if self.windows else None

    def window_of(self, app: App) -> Window | None:
        """The app's window, where it is open."""
        return next((window for window in self.windows if window.app == app), None)

    def window_at(self, x: float, y: float) -> Window | None:
        """The topmost window at a point."""
        return next((w for w in reversed(self.windows) if w.rect.contains(x, y)), None)

    def icon_at(self, x: float, y: float) -> Icon | None:
        """The topmost icon at a point, windows left aside."""
        return next((icon for icon in reversed(self.icons) if icon.rect.contains(x, y)), None)

    def is_bare(self, x: float, y: float) -> bool:
        """Whether a point shows the desktop itself, menu and dialog left aside."""
        return self.window_at(x, y) is None and self.icon_at(x, y) is None

    def raised(self, window: Window) -> "Scene":
        """The same with a window on top: raised, replaced (same app) or new."""
        others = tuple(other for other in self.windows if other.app != window.app)
        return replace(self, windows=(*others, window))

    def closed(self, app: App) -> "Scene":
        """The same without an app's window."""
        return replace(self, windows=tuple(w for w in self.windows if w.app != app))

    def with_content(self, app: App, content: Content) -> "Scene":
        """The same with what one window shows exchanged, the stacking left as it is."""
        return replace(
            self,
            windows=tuple(replace(w, content=content) if w.app == app else w for w in self.windows),
        )

    def icon_names(self) -> frozenset[str]:
        """The names of the icons that stand on the desktop."""
        return frozenset(icon.name for icon in self.icons)

    def free_cell(self, layout: Layout) -> tuple[float, float] | None:
        """Where the next folder goes: the first cell that no icon overlaps."""
        taken = [icon.rect for icon in self.icons]
        return next(
            (cell for cell in layout.cells if not any(icon_rect(*cell).overlaps(t) for t in taken)),
            None,
        )
