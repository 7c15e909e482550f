"""A folder's view: rows of entries, one of which may be selected."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ingest.replay.drawn.changes import ENTRY_SELECTED, SCROLLED
from ingest.replay.drawn.layout import App
from ingest.replay.drawn.reaction import Reaction

ROW_HEIGHT: Final = 24

ENTRIES: Final[Mapping[App, tuple[str, ...]]] = {
    "home": (
        "Desktop", "Documents", "Downloads", "Music", "Pictures",
        "Public", "Videos", "notes.txt", "todo.txt", "zoo.png",
    ),
    "trash": ("draft.txt", "old.png", "budget.ods", "copy.txt", "list.txt", "tmp.txt"),
    "folder": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FolderView:
    """The entries, the selected one's index, and the index of the first row shown."""

    entries: tuple[str, ...]
    visible_rows: int
    selected: int | None = None
    first: int = 0

    def key(self, key: str, character: str | None) -> Reaction["FolderView"]:
        """Move the selection by arrows, or to the next entry that begins with a letter."""
        if not self.entries:
            return Reaction(self)
        last = len(self.entries) - 1
        current = self.selected
        match key:
            case "down":
                return self._selected(0 if current is None else min(current + 1, last))
            case "up":
                return self._selected(last if current is None else max(current - 1, 0))
            case "home":
                return self._selected(0)
            case "end":
                return self._selected(last)
        return self._sought(character) if character else Reaction(self)

    def row_clicked(self, row: int) -> Reaction["FolderView"]:
        """Select the entry in a row as shown, if there is one."""
        index = self.first + row
        if row < self.visible_rows and index < len(self.entries):
            return self._selected(index)
        return Reaction(self)

    def wheel(self, notches: int) -> Reaction["FolderView"]:
        """Scroll by rows; positive goes down."""
        furthest = max(len(self.entries) - self.visible_rows, 0)
        first = min(max(self.first + notches, 0), furthest)
        if first == self.first:
            return Reaction(self)
        return Reaction(replace(self, first=first), (SCROLLED,))

    def _sought(self, character: str) -> Reaction["FolderView"]:
        start = -1 if self.selected is None else self.selected
        order = [(start + step) % len(self.entries) for step in range(1, len(self.entries) + 1)]
        wanted = character.lower()
        found = next((i for i in order if self.entries[i].lower().startswith(wanted)), None)
        return Reaction(self) if found is None else self._selected(found)

    def _selected(self, index: int) -> Reaction["FolderView"]:
        if index == self.selected:
            return Reaction(self)
        first = min(max(self.first, index - self.visible_rows + 1), index)
        return Reaction(replace(self, selected=index, first=first), (ENTRY_SELECTED,))
