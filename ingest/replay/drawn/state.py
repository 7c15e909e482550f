"""The drawn desktop's rules: a state and an action in, the next state and labelled changes out.

Pure and immutable: what an action would do is asked by calling `advance` and dropping the answer.
Within one tick the pointer moves first, then the left click, the right click, the keys in order,
and the wheel, as the deployed replay does it. A double click is two left clicks on the same icon at
most 5 ticks (a third of a second) and 8 logical pixels apart.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from ingest.actions import Action
from ingest.replay.drawn import changes as label
from ingest.replay.drawn.characters import typed
from ingest.replay.drawn.clicks import (
    Outcome,
    cancelled,
    exposed_icon,
    folder_named,
    left_click,
    opened,
    right_click,
)
from ingest.replay.drawn.layout import Layout
from ingest.replay.drawn.scene import Dialog, Scene

DOUBLE_CLICK_TICKS: Final = 5
DOUBLE_CLICK_DISTANCE: Final = 8.0
MAX_NAME: Final = 20
PIXELS_PER_NOTCH: Final = 100.0


@dataclass(frozen=True, slots=True)
class IconClick:
    """A single click on an icon, which a second one may make a double click."""

    tick: int
    icon: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class State:
    """All that the desktop remembers; `scene` is all that it shows."""

    scene: Scene
    tick: int = 0
    held: frozenset[str] = frozenset()
    last_click: IconClick | None = None


def advance(layout: Layout, state: State, action: Action) -> tuple[State, tuple[str, ...]]:
    """One tick: the state after the action, and what changed; no changes means the same scene."""
    scene, last_click, changes = state.scene, state.last_click, []
    if action.left:
        outcome, last_click = _clicked(layout, state, action)
        scene, changes = outcome.scene, [*outcome.changes]
    if action.right:
        outcome = right_click(scene, action.x, action.y)
        scene, last_click, changes = outcome.scene, None, [*changes, *outcome.changes]
    held = state.held
    for key in action.keys_down:
        held |= {key}
        outcome = _key_pressed(layout, scene, key, held)
        scene, changes = outcome.scene, [*changes, *outcome.changes]
    if action.wheel_y:
        outcome = _wheeled(scene, action)
        scene, changes = outcome.scene, [*changes, *outcome.changes]
    if scene == state.scene:
        scene, changes = state.scene, []
    after = State(scene, state.tick + 1, held.difference(action.keys_up), last_click)
    return after, tuple(changes)


def is_double_click(state: State, icon: str, x: float, y: float) -> bool:
    """Whether a left click now, on that icon, follows the last one closely enough."""
    last = state.last_click
    return (
        last is not None
        and last.icon == icon
        and state.tick - last.tick <= DOUBLE_CLICK_TICKS
        and math.hypot(x - last.x, y - last.y) <= DOUBLE_CLICK_DISTANCE
    )


def _clicked(layout: Layout, state: State, action: Action) -> tuple[Outcome, IconClick | None]:
    scene, x, y = state.scene, action.x, action.y
    icon = exposed_icon(scene, x, y)
    if icon is None:
        return left_click(layout, scene, x, y), None
    if is_double_click(state, icon.name, x, y):
        return opened(layout, scene, icon.app, icon.name), None
    return left_click(layout, scene, x, y), IconClick(state.tick, icon.name, x, y)


def _key_pressed(layout: Layout, scene: Scene, key: str, held: frozenset[str]) -> Outcome:
    character = typed(key, held)
    if scene.dialog is not None:
        return _dialog_key(layout, scene, scene.dialog, key, character)
    if scene.menu is not None:
        if key in {"escape", "esc"}:
            return Outcome(replace(scene, menu=None), (label.MENU_CLOSED,))
        return Outcome(scene)
    if scene.top is None:
        return Outcome(scene)
    reaction = scene.top.content.key(key, character)
    outcome = Outcome(scene.with_content(scene.top.app, reaction.content), reaction.changes)
    if reaction.new_folder is None:
        return outcome
    folder = folder_named(layout, outcome.scene, reaction.new_folder)
    return Outcome(folder.scene, outcome.changes + folder.changes)


def _dialog_key(
    layout: Layout, scene: Scene, dialog: Dialog, key: str, character: str | None
) -> Outcome:
    if key in {"enter", "return"}:
        return folder_named(layout, scene, dialog.text)
    if key in {"escape", "esc"}:
        return cancelled(scene)
    text = dialog.text
    if key == "backspace":
        text = text[:-1]
    elif character is not None and len(text) < MAX_NAME:
        text += character
    if text == dialog.text:
        return Outcome(scene)
    return Outcome(replace(scene, dialog=replace(dialog, text=text)), (label.TEXT_TYPED,))


def _wheeled(scene: Scene, action: Action) -> Outcome:
    if scene.dialog is not None or scene.menu is not None:
        return Outcome(scene)
    window = scene.window_at(action.x, action.y)
    if window is None:
        return Outcome(scene)
    notches = max(1, round(abs(action.wheel_y) / PIXELS_PER_NOTCH))
    reaction = window.content.wheel(notches if action.wheel_y > 0 else -notches)
    return Outcome(scene.with_content(window.app, reaction.content), reaction.changes)
