"""Frames to train the encoder on: aimless use of many differently laid out drawn desktops.

Three of four desktops have the standard layout, one random places and colours: the encoder
is at home on the one and lost on none (neuralos.md 7.4 c: an encoder trained on one look is the
hard floor for every other). The wanderer opens everything: browser pages, dialogs, menus, folders.
Every frame comes with its pointer's place, which the encoder's loss weighs.
"""

import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH, Action
from ingest.replay.drawn import DrawnDesktop, Layout

_STEPS_PER_DESKTOP = 96
_STANDARD_SHARE = 0.75
_DESKTOPS_AT_ONCE = 16


@dataclass(frozen=True)
class Seen:
    """A frame, uint8 (96, 128, 3), and its pointer in logical pixels."""

    frame: NDArray[np.uint8]
    x: float
    y: float


def wander(rng: random.Random, *, width: int, height: int) -> Iterator[Seen]:
    """Endless frames, neighbours from different desktops; the same for the same `rng` state."""
    walks = [_walk(rng, width=width, height=height) for _ in range(_DESKTOPS_AT_ONCE)]
    while True:
        yield next(rng.choice(walks))


def _walk(rng: random.Random, *, width: int, height: int) -> Iterator[Seen]:
    while True:
        is_standard = rng.random() < _STANDARD_SHARE
        layout = Layout.standard() if is_standard else Layout.varied(rng)
        desktop = DrawnDesktop(width=width, height=height, layout=layout)
        num_seen = 0
        while num_seen < _STEPS_PER_DESKTOP:
            for action in rng.choice(_DEEDS)(rng, layout):
                yield Seen(desktop.step(action).frame, action.x, action.y)
                num_seen += 1
        desktop.close()


def _anywhere(rng: random.Random) -> tuple[float, float]:
    return rng.uniform(0, SCREEN_WIDTH - 1), rng.uniform(0, SCREEN_HEIGHT - 1)


def _moves(rng: random.Random, _: Layout) -> list[Action]:
    return [Action(*_anywhere(rng)) for _ in range(4)]


def _opens_an_icon(rng: random.Random, layout: Layout) -> list[Action]:
    spot = rng.choice([*layout.icons.values(), *layout.cells[:6]])
    return [Action(*spot, left=True)] * 2 + _moves(rng, layout)


def _makes_a_folder(rng: random.Random, layout: Layout) -> list[Action]:
    x, y = _anywhere(rng)
    item = Action(min(x, 384) + 40, min(y, 300) + rng.choice((18, 42)), left=True)
    opening = [Action(x, y, right=True), *_moves(rng, layout)[:2], item, *_moves(rng, layout)[:2]]
    return [*opening, *_types(rng, layout)]


def _visits_a_page(rng: random.Random, layout: Layout) -> list[Action]:
    rect, icon = layout.windows["browser"], layout.icons["browser"]
    address = Action(rect.x + rng.uniform(40, rect.width), rect.y + 30, left=True)
    return [
        *[Action(*icon, left=True)] * 2,
        *[address, *_types(rng, layout), Action(*_anywhere(rng), keys_down=("enter",))],
        *_moves(rng, layout),
    ]


def _types(rng: random.Random, _: Layout) -> list[Action]:
    x, y = _anywhere(rng)
    keys = rng.choices(string.ascii_lowercase + " ", k=rng.randint(2, 8))
    if rng.random() < 0.7:
        keys.append("enter")
    return [Action(x, y, keys_down=(key,)) for key in keys]


def _clicks_a_window(rng: random.Random, layout: Layout) -> list[Action]:
    rect = rng.choice(list(layout.windows.values()))
    return [
        Action(rect.x + rng.uniform(8, rect.width / 2), rect.y + rng.choice((8, 30)), left=True)
    ]


def _closes_a_window(rng: random.Random, layout: Layout) -> list[Action]:
    rect = rng.choice(list(layout.windows.values()))
    return [Action(rect.right - 8, rect.y + 8, left=True)]


def _scrolls(rng: random.Random, _: Layout) -> list[Action]:
    return [Action(*_anywhere(rng), wheel_y=rng.choice((-100.0, 100.0)))]


_DEEDS: tuple[Callable[[random.Random, Layout], list[Action]], ...] = (
    *(_opens_an_icon, _opens_an_icon, _opens_an_icon),
    *(_moves, _moves, _makes_a_folder, _visits_a_page, _types, _clicks_a_window),
    *(_closes_a_window, _closes_a_window, _scrolls, _scrolls),
)
