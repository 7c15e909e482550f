"""A simulated hand: moves, clicks and keys become timed log lines, and a desktop that they change.

In: where to go and what to press. Out: `SimulatedAction`s with the fields and habits of real logs:
about six lines a second, bent pointer paths, the same place told now whole and now in fractions, a
double click on neighbouring lines, every key down and up, and auto inputs once a hand has rested
for two seconds. The hand drives the drawn desktop's state, without pixels: it knows what is shown.
"""

import math
import random
from dataclasses import dataclass
from typing import Final

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH, Action
from ingest.replay.drawn.layout import Layout
from ingest.replay.drawn.scene import Scene
from ingest.replay.drawn.state import DOUBLE_CLICK_TICKS, State, advance

MEDIAN_INTERVAL_S: Final = 0.16
AUTO_INPUT_AFTER_S: Final = 2.1
WHOLE_PIXEL_SHARE: Final = 0.75
WHEEL_NOTCHES: Final = (100, 100, 100, 53.3)


@dataclass(frozen=True)
class Pace:
    """How much happens between two deeds: pixels a line, lines a path, and how often it rests."""

    pixels_per_line: float
    max_moves: int
    rest_chance: float
    max_rest_lines: int


NATURAL: Final = Pace(pixels_per_line=45, max_moves=12, rest_chance=0.6, max_rest_lines=30)
"""As in the logs of real people."""

COMPACT: Final = Pace(pixels_per_line=110, max_moves=4, rest_chance=0.3, max_rest_lines=3)
"""Much in few lines, for demo and evaluation: a transition about every nine lines."""


@dataclass(frozen=True, slots=True)
class SimulatedAction:
    """A log line's `inputs` and how long after the line before it came, in seconds."""

    delay_s: float
    payload: dict[str, object]


class Hand:
    """Somebody's hand on mouse and keyboard; `actions` is what it did so far."""

    def __init__(self, rng: random.Random, pace: Pace, layout: Layout) -> None:
        self.actions: list[SimulatedAction] = []
        self._rng = rng
        self._pace = pace
        self._layout = layout
        self._state = State(Scene.fresh(layout))
        self._x = rng.uniform(180, 430)
        self._y = rng.uniform(60, 330)
        self._pause_s = 0.0

    @property
    def scene(self) -> Scene:
        """What is on the screen now."""
        return self._state.scene

    def move_to(self, x: float, y: float) -> None:
        """Go to a point on a bent path, a line every so many pixels."""
        x, y = min(max(x, 0), SCREEN_WIDTH - 1), min(max(y, 0), SCREEN_HEIGHT - 1)
        start_x, start_y = self._x, self._y
        length = math.hypot(x - start_x, y - start_y)
        num_moves = min(max(round(length / self._pace.pixels_per_line), 1), self._pace.max_moves)
        bend = self._rng.gauss(0, 0.12)
        for move in range(1, num_moves + 1):
            share = move / num_moves
            share = share * share * (3 - 2 * share)
            aside = bend * 4 * share * (1 - share)
            self._x = start_x + share * (x - start_x) - aside * (y - start_y)
            self._y = start_y + share * (y - start_y) + aside * (x - start_x)
            self._line()

    def click(self) -> None:
        """A single left click where the hand is."""
        self._line(is_left_click=True)

    def double_click(self) -> None:
        """Two left clicks on neighbouring lines, never made three by an earlier one."""
        self.let_click_expire()
        self.click()
        self.click()

    def right_click(self) -> None:
        """A right click where the hand is."""
        self._line(is_right_click=True)

    def let_click_expire(self) -> None:
        """Hesitate until a click that was made before no longer counts for a double click."""
        while (last := self._state.last_click) is not None:
            if self._state.tick - last.tick > DOUBLE_CLICK_TICKS:
                return
            self._line()

    def press(self, key: str) -> None:
        """A key down and up again, under the browser's name for it."""
        self._line(keys_down=[key])
        self._line(keys_up=[key])

    def type(self, text: str) -> None:
        """Type a text; a capital is Shift down, the letter down and up, Shift up."""
        for character in text:
            if character.isupper():
                self._line(keys_down=["Shift"])
            self.press(character)
            if character.isupper():
                self._line(keys_up=["Shift"])

    def wheel(self, direction: int) -> None:
        """One notch down (1) or up (-1)."""
        self._line(wheel_delta_y=direction * self._rng.choice(WHEEL_NOTCHES))

    def pause(self) -> None:
        """Think; at times so long that the page begins to send auto inputs."""
        if self._rng.random() >= self._pace.rest_chance:
            self._pause_s += self._rng.uniform(0.2, 1.8)
            return
        self._pause_s += AUTO_INPUT_AFTER_S
        for _ in range(self._rng.randint(1, self._pace.max_rest_lines)):
            self._line(is_auto_input=True)

    def _line(self, **inputs: object) -> None:
        payload: dict[str, object] = {
            **self._place(),
            "is_left_click": False,
            "is_right_click": False,
            "keys_down": [],
            "keys_up": [],
            "wheel_delta_x": 0,
            "wheel_delta_y": 0,
            "is_auto_input": False,
        } | inputs
        interval = MEDIAN_INTERVAL_S * math.exp(self._rng.gauss(0, 0.35))
        delay_s = round(min(max(interval, 0.05), 0.6) + self._pause_s, 4)
        self._pause_s = 0.0
        self.actions.append(SimulatedAction(delay_s, payload))
        self._state, _ = advance(self._layout, self._state, Action.from_payload(payload))

    def _place(self) -> dict[str, object]:
        if self._rng.random() < WHOLE_PIXEL_SHARE:
            return {"x": round(self._x), "y": round(self._y)}
        return {"x": round(self._x, 2), "y": round(self._y, 2)}
