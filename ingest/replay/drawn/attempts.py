"""What an action that changed nothing looked like an attempt at.

A model must not only learn that double clicks open windows, but that single ones don't. For an
action after which nothing structural happened, this names the transition it comes close to and the
scene as it had been then: the evaluation compares a prediction with both.
"""

from typing import Final

from ingest.actions import Action
from ingest.replay.drawn.browser import Browser
from ingest.replay.drawn.changes import is_structural
from ingest.replay.drawn.clicks import (
    PASTE,
    Outcome,
    closed,
    exposed_icon,
    folder_named,
    opened,
    with_dialog,
    with_menu,
)
from ingest.replay.drawn.layout import Layout, Rect
from ingest.replay.drawn.scene import Scene

NEAR_CLOSE_BUTTON: Final = 40.0
DEFAULT_NAME: Final = "New Folder"


def attempt(layout: Layout, scene: Scene, action: Action) -> tuple[str, Scene] | None:
    """The label that a no-change action would have had, and the scene had it acted.

    None where the action is no plausible attempt, or where acting would have shown the same.
    """
    outcome = _acted(layout, scene, action)
    if outcome is None:
        return None
    wanted = next((change for change in outcome.changes if is_structural(change)), None)
    return None if wanted is None else (wanted, outcome.scene)


def _acted(layout: Layout, scene: Scene, action: Action) -> Outcome | None:
    if action.left:
        return _left_acted(layout, scene, action.x, action.y)
    if action.right:
        can_open = scene.menu is None and scene.dialog is None
        return with_menu(scene, action.x, action.y) if can_open else None
    if {"enter", "return"} & set(action.keys_down):
        return _enter_acted(layout, scene)
    return None


def _left_acted(layout: Layout, scene: Scene, x: float, y: float) -> Outcome | None:
    icon = exposed_icon(scene, x, y)
    if icon is not None:
        return opened(layout, scene, icon.app, icon.name)
    if scene.menu is not None:
        return with_dialog(layout, scene) if scene.menu.item(PASTE).contains(x, y) else None
    top = scene.top
    if top is None or scene.dialog is not None:
        return None
    button = top.close_button
    near = Rect(
        button.x - NEAR_CLOSE_BUTTON,
        button.y - 8,
        button.width + NEAR_CLOSE_BUTTON + 10,
        button.height + 8,
    )
    is_miss = near.contains(x, y) and not button.contains(x, y)
    return closed(scene, top.app) if is_miss else None


def _enter_acted(layout: Layout, scene: Scene) -> Outcome | None:
    if scene.dialog is not None:
        return folder_named(layout, scene, DEFAULT_NAME)
    top = scene.top
    if top is None or scene.menu is not None:
        return None
    match top.content:
        case Browser(editing=True, page=page) if page:
            return Outcome(scene.with_content("browser", Browser()), ("page_loaded",))
        case _:
            return None
