"""What a simulated person sees: where on a screen the things are that can be clicked. Pure."""

import random
from typing import Final, TypeAlias

from ingest.replay.drawn.browser import Browser
from ingest.replay.drawn.clicks import exposed_icon
from ingest.replay.drawn.folder import FolderView
from ingest.replay.drawn.layout import App, Rect
from ingest.replay.drawn.scene import Icon, Scene, Window

Point: TypeAlias = tuple[float, float]

NUM_GLANCES: Final = 30
MENU_AREA: Final = Rect(110, 60, 270, 230)
MENU_ROOM: Final = 24.0


def point_in(rng: random.Random, rect: Rect, margin: float = 3.0) -> Point:
    """A point inside a rectangle, away from its edges."""
    return (
        rng.uniform(rect.x + margin, rect.right - margin),
        rng.uniform(rect.y + margin, rect.bottom - margin),
    )


def bare_spot(rng: random.Random, scene: Scene) -> Point | None:
    """Somewhere in the middle of the screen with only the desktop under and around it.

    Nobody aims a menu at a gap of a few pixels between an icon and a window.
    """
    for _ in range(NUM_GLANCES):
        x, y = point_in(rng, MENU_AREA)
        if _is_bare_around(scene, x, y):
            return x, y
    return None


def _is_bare_around(scene: Scene, x: float, y: float) -> bool:
    steps = (-MENU_ROOM, 0.0, MENU_ROOM)
    around = [(x + across, y + down) for across in steps for down in steps]
    return all(scene.window_at(*at) is None and scene.icon_at(*at) is None for at in around)


def spot_on(rng: random.Random, scene: Scene, window: Window) -> Point | None:
    """Somewhere on a window that shows and is not its close button."""
    for rect in (window.title_bar, window.rect):
        for _ in range(NUM_GLANCES):
            x, y = point_in(rng, rect)
            if scene.window_at(x, y) == window and not window.close_button.contains(x, y):
                return x, y
    return None


def spot_without_menu(rng: random.Random, scene: Scene) -> Point:
    """Somewhere that has no desktop menu: on a window or an icon."""
    window = scene.top
    if window is not None and rng.random() < 0.7:
        return point_in(rng, window.body, margin=8)
    icon = rng.choice(scene.icons)
    return icon.x + rng.uniform(-8, 8), icon.y + rng.uniform(-8, 8)


def exposed_icons(scene: Scene, app: App | None = None) -> list[Icon]:
    """The icons (of an app) whose middle no window covers."""
    return [
        icon
        for icon in scene.icons
        if app in {None, icon.app} and exposed_icon(scene, icon.x, icon.y) == icon
    ]


def hidden_windows(rng: random.Random, scene: Scene) -> list[tuple[Window, Point]]:
    """The windows that have no focus but show somewhere, and where."""
    spots = [(window, spot_on(rng, scene, window)) for window in scene.windows[:-1]]
    return [(window, spot) for window, spot in spots if spot is not None]


def scrollable_window(scene: Scene) -> Window | None:
    """The focused window if the wheel moves what it shows."""
    match scene.top:
        case Window(content=Browser()) as window:
            return window
        case Window(content=FolderView() as view) as window:
            return window if len(view.entries) > view.visible_rows else None
        case _:
            return None
