"""A simulated person: tasks on the desktop, done by a hand, with the slips that people make.

The slips are what makes an evaluation fair: single and slow clicks on icons, right clicks where no
menu is, clicks beside the close button, a disabled menu item, Enter on an empty name. Each kind
comes about as often as the transition that it resembles, and only beside it.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH
from ingest.replay.drawn.browser import Browser, address_bar
from ingest.replay.drawn.clicks import CREATE_FOLDER, PASTE
from ingest.replay.drawn.layout import App, Layout, Rect
from ingest.replay.drawn.scene import Icon, Window
from ingest.simulate import sight
from ingest.simulate.hand import Hand, Pace, SimulatedAction
from ingest.simulate.weights import Task, TaskWeights

FOLDER_NAMES: Final = (
    "New", "Photos", "music", "work", "Docs", "Trips", "games", "Bills", "code", "school",
    "Old", "Art", "notes", "misc",
)  # fmt: skip
COMMANDS: Final = ("ls", "pwd", "date", "cd Desktop", "echo Hi", "clear", "top")
PAGES: Final = ("maps", "weather", "news", "neural os", "mail", "shop", "music", "trains", "films")
MANY_WINDOWS: Final = 3


@dataclass(frozen=True)
class _Deed:
    is_possible: Callable[[], bool]
    do: Callable[[], None]


class Person:
    """Somebody at the desktop, who never leaves a menu or a dialog open between tasks."""

    def __init__(self, rng: random.Random, pace: Pace, layout: Layout) -> None:
        self._rng = rng
        self._hand = Hand(rng, pace, layout)
        self._layout = layout
        self._deeds: Mapping[Task, _Deed] = {
            "open_terminal": self._opening("terminal"),
            "open_home": self._opening("home"),
            "open_trash": self._opening("trash"),
            "open_browser": self._opening("browser"),
            "open_folder": self._opening("folder"),
            "close_window": _Deed(lambda: self._hand.scene.top is not None, self._close_top),
            "focus_window": _Deed(lambda: bool(self._hidden_windows()), self._focus_another),
            "create_folder": _Deed(self._can_create_folder, self._create_folder),
            "browse_page": _Deed(lambda: self._can_bring_up("browser"), self._browse),
            "run_command": _Deed(lambda: self._can_bring_up("terminal"), self._run_command),
            "scroll": _Deed(self._can_scroll, self._scroll),
            "look_around": _Deed(lambda: True, self._look_around),
        }

    @property
    def actions(self) -> list[SimulatedAction]:
        """Everything done so far."""
        return self._hand.actions

    def spend(self, weights: TaskWeights, *, num_tasks: int) -> None:
        """Do so many tasks, drawn by their weights from those that the screen allows."""
        for _ in range(num_tasks):
            tasks = [task for task, deed in self._deeds.items() if deed.is_possible()]
            chances = [weights.share(task) * self._urge(task) for task in tasks]
            task: Task = "look_around"
            if sum(chances) > 0:
                task = self._rng.choices(tasks, chances)[0]
            self._deeds[task].do()
            self._hand.pause()

    def _opening(self, app: App) -> "_Deed":
        return _Deed(lambda: self._can_open(app), lambda: self._open(app))

    def _can_open(self, app: App) -> bool:
        scene = self._hand.scene
        return scene.window_of(app) is None and bool(sight.exposed_icons(scene, app))

    def _can_bring_up(self, app: App) -> bool:
        return self._hand.scene.window_of(app) is not None or self._can_open(app)

    def _can_create_folder(self) -> bool:
        return self._hand.scene.free_cell(self._layout) is not None and bool(self._new_names())

    def _can_scroll(self) -> bool:
        return sight.scrollable_window(self._hand.scene) is not None

    def _hidden_windows(self) -> list[tuple[Window, sight.Point]]:
        return sight.hidden_windows(self._rng, self._hand.scene)

    def _urge(self, task: Task) -> float:
        crowd = len(self._hand.scene.windows) - MANY_WINDOWS + 1
        return 1.0 + 2.0 * crowd if task == "close_window" and crowd > 0 else 1.0

    def _slips(self, chance: float) -> bool:
        return self._rng.random() < chance

    def _open(self, app: App) -> None:
        self._double_click(self._rng.choice(sight.exposed_icons(self._hand.scene, app)))

    def _double_click(self, icon: Icon) -> None:
        hand = self._hand
        hand.move_to(*self._on(icon))
        if self._slips(0.3):
            hand.click()
        if self._slips(0.15):
            hand.let_click_expire()
            hand.click()
        hand.double_click()

    def _on(self, icon: Icon) -> sight.Point:
        return icon.x + self._rng.uniform(-6, 6), icon.y + self._rng.uniform(-6, 6)

    def _close_top(self) -> None:
        hand, top = self._hand, self._hand.scene.top
        if top is None:
            return
        button = top.close_button
        if self._slips(0.75):
            beside = Rect(max(button.x - 34, top.rect.x), button.y, 30, button.height)
            hand.move_to(*sight.point_in(self._rng, beside))
            hand.click()
        hand.move_to(*sight.point_in(self._rng, button))
        hand.click()

    def _focus_another(self) -> None:
        hand, rng = self._hand, self._rng
        window, spot = rng.choice(self._hidden_windows())
        icons = sight.exposed_icons(hand.scene, window.app)
        icons = [icon for icon in icons if icon.name == window.title]
        if icons and self._slips(0.6):
            hand.move_to(*self._on(icons[0]))
            hand.click()
        if icons and self._slips(0.2):
            self._double_click(icons[0])
            return
        hand.move_to(*spot)
        hand.click()

    def _bring_up(self, app: App) -> None:
        hand, rng = self._hand, self._rng
        window = hand.scene.window_of(app)
        if window is None:
            self._open(app)
            hand.pause()
            return
        if window == hand.scene.top:
            return
        spot = sight.spot_on(rng, hand.scene, window)
        while spot is None:
            self._close_top()
            spot = sight.spot_on(rng, hand.scene, window)
        hand.move_to(*spot)
        hand.click()

    def _create_folder(self) -> None:
        hand, rng = self._hand, self._rng
        if self._slips(0.7):
            hand.move_to(*sight.spot_without_menu(rng, hand.scene))
            hand.right_click()
        spot = sight.bare_spot(rng, hand.scene)
        while spot is None:
            self._close_top()
            spot = sight.bare_spot(rng, hand.scene)
        if self._slips(0.15):
            hand.move_to(*spot)
            hand.right_click()
            hand.press("Escape")
        hand.move_to(*spot)
        hand.right_click()
        if self._slips(0.75):
            self._click_item(PASTE)
        self._click_item(CREATE_FOLDER)
        self._name_folder()

    def _click_item(self, index: int) -> None:
        menu = self._hand.scene.menu
        if menu is not None:
            item = menu.item(index)
            middle = Rect(item.x + 46, item.y, 28, item.height)
            self._hand.move_to(*sight.point_in(self._rng, middle))
            self._hand.click()

    def _name_folder(self) -> None:
        hand = self._hand
        if self._slips(0.75):
            hand.press("Enter")
        name = self._rng.choice(self._new_names())
        if self._slips(0.1):
            hand.press(self._rng.choice("qxz"))
            hand.press("Backspace")
        hand.type(name)
        hand.press("Escape" if self._slips(0.08) else "Enter")

    def _new_names(self) -> list[str]:
        taken = self._hand.scene.icon_names()
        return [name for name in FOLDER_NAMES if name not in taken]

    def _browse(self) -> None:
        hand, rng = self._hand, self._rng
        self._bring_up("browser")
        window = hand.scene.window_of("browser")
        if window is None or not isinstance(window.content, Browser):
            return
        bar = address_bar(window.rect)
        hand.move_to(*sight.point_in(rng, Rect(bar.x + 24, bar.y, 152, bar.height - 8)))
        hand.click()
        page = window.content.page
        if page and self._slips(0.95):
            hand.press("Backspace")
            hand.press("Enter")
        hand.type(rng.choice([name for name in PAGES if name != page]))
        hand.press("Enter")

    def _run_command(self) -> None:
        self._bring_up("terminal")
        self._hand.type(self._rng.choice(COMMANDS))
        self._hand.press("Enter")

    def _scroll(self) -> None:
        window = sight.scrollable_window(self._hand.scene)
        if window is None:
            return
        self._hand.move_to(*sight.point_in(self._rng, window.body, margin=20))
        direction = self._rng.choice((1, 1, -1))
        for _ in range(self._rng.randint(2, 5)):
            self._hand.wheel(direction if self._rng.random() < 0.8 else -direction)

    def _look_around(self) -> None:
        hand, rng = self._hand, self._rng
        hand.move_to(rng.uniform(20, SCREEN_WIDTH - 20), rng.uniform(20, SCREEN_HEIGHT - 20))
        icons = sight.exposed_icons(hand.scene)
        if icons and self._slips(0.5):
            hand.move_to(*self._on(rng.choice(icons)))
            hand.let_click_expire()
            hand.click()
