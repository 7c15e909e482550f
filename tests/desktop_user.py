"""Somebody in front of a drawn desktop: clicks and keys in words, one action a tick."""

from hypothesis import strategies as st

from ingest.actions import Action
from ingest.keyboard import VOCABULARY
from ingest.replay.drawn import Counterfactual, DrawnDesktop
from ingest.replay.environment import Step

HOME = (67.0, 172.0)
TRASH = (67.0, 45.0)
TERMINAL = (67.0, 295.0)
FIREFOX = (190.0, 45.0)
BARE = (200.0, 150.0)
TERMINAL_CLOSE = (496.0, 228.0)
TERMINAL_TITLE = (300.0, 228.0)
HOME_CLOSE = (494.0, 28.0)
HOME_TITLE = (430.0, 28.0)
ADDRESS = (250.0, 74.0)

ACTIONS = st.builds(
    Action,
    x=st.floats(0, 511),
    y=st.floats(0, 383),
    left=st.booleans(),
    right=st.booleans(),
    keys_down=st.lists(st.sampled_from(VOCABULARY), max_size=2).map(tuple),
    keys_up=st.lists(st.sampled_from(VOCABULARY), max_size=2).map(tuple),
    wheel_y=st.sampled_from((0.0, 0.0, 100.0, -53.3)),
)
SPOTS = st.sampled_from(
    [HOME, TERMINAL, FIREFOX, BARE, (260.0, 192.0), (496.0, 228.0), (250.0, 74.0)]
)
_KEYS = {key: (key,) for key in ("a", "z", "enter")}
AIMED = st.builds(
    lambda at, deed: Action(
        at[0], at[1], left=deed == "left", right=deed == "right", keys_down=_KEYS.get(deed, ())
    ),
    SPOTS,
    st.sampled_from(["left", "left", "left", "right", "a", "z", "enter"]),
)


class User:
    """Acts at points of the logical screen; each method gives what the (last) action led to."""

    def __init__(self, desktop: DrawnDesktop | None = None) -> None:
        self.desktop = desktop or DrawnDesktop()
        self._at = (10.0, 370.0)

    def move(self, at: tuple[float, float]) -> Step:
        self._at = at
        return self.desktop.step(Action(*at))

    def wait(self, ticks: int) -> None:
        for _ in range(ticks):
            self.move(self._at)

    def click(self, at: tuple[float, float]) -> Step:
        self._at = at
        return self.desktop.step(Action(at[0], at[1], left=True))

    def double_click(self, at: tuple[float, float]) -> Step:
        self.wait(6)
        self.click(at)
        return self.click(at)

    def right_click(self, at: tuple[float, float]) -> Step:
        self._at = at
        return self.desktop.step(Action(at[0], at[1], right=True))

    def click_create_folder(self) -> Step:
        return self.click((self._at[0] + 60, self._at[1] + 42))

    def press(self, *keys: str) -> Step:
        x, y = self._at
        return self.desktop.step(Action(x, y, keys_down=keys, keys_up=keys))

    def type(self, text: str) -> Step:
        step = self.move(self._at)
        for character in text:
            keys = ("shift", character.lower()) if character.isupper() else (character,)
            step = self.press(*keys)
        return step

    def wheel(self, at: tuple[float, float], delta: float) -> Step:
        self._at = at
        return self.desktop.step(Action(at[0], at[1], wheel_y=delta))

    def create_folder(self, name: str) -> Step:
        self.right_click(BARE)
        self.click_create_folder()
        self.type(name)
        return self.press("enter")

    def counterfactual(
        self, at: tuple[float, float], *, left: bool = False, right: bool = False
    ) -> Counterfactual | None:
        return self.desktop.counterfactual(Action(at[0], at[1], left, right))
