"""What a click does to a scene. Pure; a click that does nothing returns the very same scene."""

from dataclasses import dataclass, replace
from typing import Final

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from ingest.replay.drawn import changes as label
from ingest.replay.drawn.browser import Browser, address_bar
from ingest.replay.drawn.folder import ENTRIES, ROW_HEIGHT, FolderView
from ingest.replay.drawn.layout import NAMES, TITLE_HEIGHT, App, Layout
from ingest.replay.drawn.reaction import Reaction
from ingest.replay.drawn.scene import Content, Dialog, Icon, Menu, Scene, Window
from ingest.replay.drawn.terminal import Terminal

OPEN_TERMINAL: Final = 0
CREATE_FOLDER: Final = 1
PASTE: Final = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scene and the labels of what changed on the way to it."""

    scene: Scene
    changes: tuple[str, ...] = ()


def left_click(layout: Layout, scene: Scene, x: float, y: float) -> Outcome:
    """A single left click at a point: dialog, menu, windows, icons, desktop, in this order."""
    if scene.dialog is not None:
        return _dialog_click(layout, scene, scene.dialog, x, y)
    if scene.menu is not None:
        return _menu_click(layout, scene, scene.menu, x, y)
    window = scene.window_at(x, y)
    if window is not None:
        return _window_click(scene, window, x, y)
    icon = scene.icon_at(x, y)
    if icon is None:
        return deselected(scene)
    if icon.name == scene.selected:
        return Outcome(scene)
    return Outcome(replace(scene, selected=icon.name), (label.ICON_SELECTED,))


def right_click(scene: Scene, x: float, y: float) -> Outcome:
    """A right click: the bare desktop opens its menu there, elsewhere an open menu closes."""
    if scene.dialog is not None or (scene.menu is not None and scene.menu.rect.contains(x, y)):
        return Outcome(scene)
    if scene.is_bare(x, y):
        return with_menu(scene, x, y)
    if scene.menu is None:
        return Outcome(scene)
    return Outcome(replace(scene, menu=None), (label.MENU_CLOSED,))


def exposed_icon(scene: Scene, x: float, y: float) -> Icon | None:
    """The icon that a click at a point reaches: nothing lies over it."""
    if scene.dialog is not None or scene.menu is not None or scene.window_at(x, y) is not None:
        return None
    return scene.icon_at(x, y)


def opened(layout: Layout, scene: Scene, app: App, title: str) -> Outcome:
    """Open an app's window, or raise the one that is open; a folder view may change its folder."""
    scene = replace(scene, menu=None)
    window = scene.window_of(app)
    if window is None or window.title != title:
        rect = layout.windows[app]
        window = Window(app, title, rect, _content(app, rect.height))
        after = replace(scene.raised(window), selected=None)
        return Outcome(after, (f"{label.WINDOW_OPENED}:{app}",))
    if window == scene.top:
        return deselected(scene)
    after = replace(scene.raised(window), selected=None)
    return Outcome(after, (f"{label.WINDOW_FOCUSED}:{app}",))


def closed(scene: Scene, app: App) -> Outcome:
    """Close an app's window."""
    after = replace(scene.closed(app), selected=None)
    return Outcome(after, (f"{label.WINDOW_CLOSED}:{app}",))


def with_menu(scene: Scene, x: float, y: float) -> Outcome:
    """Open the desktop's menu at a point, moved in where it would leave the screen."""
    rect = Menu(0, 0).rect
    menu = Menu(min(int(x), SCREEN_WIDTH - rect.width), min(int(y), SCREEN_HEIGHT - rect.height))
    if menu == scene.menu:
        return Outcome(scene)
    return Outcome(replace(scene, menu=menu, selected=None), (label.MENU_OPENED,))


def with_dialog(layout: Layout, scene: Scene) -> Outcome:
    """Ask a new folder's name."""
    after = replace(scene, menu=None, dialog=Dialog(layout.dialog))
    return Outcome(after, (label.DIALOG_OPENED,))


def cancelled(scene: Scene) -> Outcome:
    """Close the name dialog without a folder."""
    return Outcome(replace(scene, dialog=None), (label.DIALOG_CANCELLED,))


def folder_named(layout: Layout, scene: Scene, name: str) -> Outcome:
    """Close the dialog and put a folder; an empty or used name or a full desktop do nothing."""
    name = name.strip()
    cell = scene.free_cell(layout)
    if not name or name in scene.icon_names() or cell is None:
        return Outcome(scene)
    icon = Icon(name, "folder", *cell)
    after = replace(scene, icons=(*scene.icons, icon), dialog=None)
    return Outcome(after, (label.FOLDER_CREATED,))


def deselected(scene: Scene) -> Outcome:
    """Take an icon's highlight away."""
    if scene.selected is None:
        return Outcome(scene)
    return Outcome(replace(scene, selected=None), (label.SELECTION_CLEARED,))


def _dialog_click(layout: Layout, scene: Scene, dialog: Dialog, x: float, y: float) -> Outcome:
    if dialog.create_button.contains(x, y):
        return folder_named(layout, scene, dialog.text)
    if dialog.cancel_button.contains(x, y) or not dialog.rect.contains(x, y):
        return cancelled(scene)
    return Outcome(scene)


def _menu_click(layout: Layout, scene: Scene, menu: Menu, x: float, y: float) -> Outcome:
    if not menu.rect.contains(x, y):
        return Outcome(replace(scene, menu=None), (label.MENU_CLOSED,))
    if menu.item(OPEN_TERMINAL).contains(x, y):
        outcome = opened(layout, scene, "terminal", NAMES["terminal"])
        return Outcome(outcome.scene, outcome.changes or (label.MENU_CLOSED,))
    if menu.item(CREATE_FOLDER).contains(x, y):
        return with_dialog(layout, scene)
    return Outcome(scene)


def _window_click(scene: Scene, window: Window, x: float, y: float) -> Outcome:
    if window.close_button.contains(x, y):
        return closed(scene, window.app)
    reaction = _body_click(window, x, y)
    raised = replace(scene.raised(replace(window, content=reaction.content)), selected=None)
    if window != scene.top:
        return Outcome(raised, (f"{label.WINDOW_FOCUSED}:{window.app}", *reaction.changes))
    return Outcome(raised, (*reaction.changes, *deselected(scene).changes))


def _body_click(window: Window, x: float, y: float) -> Reaction[Content]:
    match window.content:
        case Browser() as browser if address_bar(window.rect).contains(x, y):
            return browser.address_clicked()
        case Browser() as browser:
            return browser.left()
        case FolderView() as view if window.body.contains(x, y):
            return view.row_clicked(int((y - window.body.y) // ROW_HEIGHT))
        case content:
            return Reaction(content)


def _content(app: App, height: float) -> Content:
    if app == "terminal":
        return Terminal()
    if app == "browser":
        return Browser()
    rows = int((height - TITLE_HEIGHT) // ROW_HEIGHT)
    return FolderView(ENTRIES[app], visible_rows=max(rows, 1))
