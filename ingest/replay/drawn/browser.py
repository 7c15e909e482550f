"""The browser: an address bar and a page whose looks follow from the address alone."""

import zlib
from dataclasses import dataclass, replace
from typing import Final

from ingest.replay.drawn.changes import (
    ADDRESS_FOCUSED,
    ADDRESS_LEFT,
    PAGE_LOADED,
    SCROLLED,
    TEXT_TYPED,
)
from ingest.replay.drawn.layout import TITLE_HEIGHT, Rect
from ingest.replay.drawn.reaction import Reaction

TOOLBAR_HEIGHT: Final = 26
MAX_ADDRESS: Final = 40
MAX_SCROLL: Final = 5
START_PAGE: Final = ""


def address_bar(window: Rect) -> Rect:
    """Where the browser's address bar takes clicks: the toolbar from the back button on."""
    return Rect(window.x + 28, window.y + TITLE_HEIGHT, window.width - 28, TOOLBAR_HEIGHT)


def page_number(address: str) -> int:
    """What a page looks like: a stable hash of its address; the start page is 0."""
    name = address.strip().lower()
    return zlib.crc32(name.encode("ascii", "replace")) if name else 0


@dataclass(frozen=True, slots=True)
class Browser:
    """The page shown, the address typed, and whether the address bar has the keyboard.

    `replacing`: all of the address is marked, as after a click into it; the next character replaces
    it.
    """

    page: str = START_PAGE
    address: str = ""
    editing: bool = False
    replacing: bool = False
    scroll: int = 0

    def key(self, key: str, character: str | None) -> Reaction["Browser"]:
        """Edit the address, load it, or leave it; with the bar not in use, scroll the page."""
        if not self.editing:
            return self._page_key(key)
        if key in {"enter", "return"}:
            return self._loaded() if self.address.strip() else Reaction(self)
        if key in {"escape", "esc"}:
            return self.left()
        if key == "backspace":
            return self._edited("" if self.replacing else self.address[:-1])
        if character is None or len(self.address) >= MAX_ADDRESS:
            return Reaction(self)
        return self._edited(character if self.replacing else self.address + character)

    def address_clicked(self) -> Reaction["Browser"]:
        """Take the keyboard, with all of the address marked."""
        after = replace(self, editing=True, replacing=bool(self.address))
        return Reaction(after, (ADDRESS_FOCUSED,)) if after != self else Reaction(self)

    def left(self) -> Reaction["Browser"]:
        """Give the keyboard back and show the page's own address again."""
        after = replace(self, address=self.page, editing=False, replacing=False)
        return Reaction(after, (ADDRESS_LEFT,)) if after != self else Reaction(self)

    def wheel(self, notches: int) -> Reaction["Browser"]:
        """Scroll the page; positive goes down."""
        scroll = min(max(self.scroll + notches, 0), MAX_SCROLL)
        if scroll == self.scroll:
            return Reaction(self)
        return Reaction(replace(self, scroll=scroll), (SCROLLED,))

    def _page_key(self, key: str) -> Reaction["Browser"]:
        steps = {"down": 1, "up": -1, "pagedown": 3, "pageup": -3, " ": 3}
        return self.wheel(steps[key]) if key in steps else Reaction(self)

    def _edited(self, address: str) -> Reaction["Browser"]:
        after = replace(self, address=address, replacing=False)
        return Reaction(after, (TEXT_TYPED,)) if after != self else Reaction(self)

    def _loaded(self) -> Reaction["Browser"]:
        name = self.address.strip()
        return Reaction(Browser(page=name, address=name), (PAGE_LOADED,))
