"""The labels of what a tick changed on the drawn desktop.

The visible screen (but for the pointer) changes exactly when a step returns at least one label.
Structural labels are the transitions that a model is judged on; the small ones are typing,
scrolling and highlights. `<app>` is one of terminal, home, trash, folder, browser.
"""

from typing import Final

MENU_OPENED: Final = "menu_opened"
MENU_CLOSED: Final = "menu_closed"
DIALOG_OPENED: Final = "dialog_opened"
DIALOG_CANCELLED: Final = "dialog_cancelled"
FOLDER_CREATED: Final = "folder_created"
PAGE_LOADED: Final = "page_loaded"
TEXT_TYPED: Final = "text_typed"
COMMAND_RUN: Final = "command_run"
SCROLLED: Final = "scrolled"
ICON_SELECTED: Final = "icon_selected"
SELECTION_CLEARED: Final = "selection_cleared"
ENTRY_SELECTED: Final = "entry_selected"
ADDRESS_FOCUSED: Final = "address_focused"
ADDRESS_LEFT: Final = "address_left"

WINDOW_OPENED: Final = "window_opened"
WINDOW_CLOSED: Final = "window_closed"
WINDOW_FOCUSED: Final = "window_focused"

STRUCTURAL: Final = frozenset(
    {
        WINDOW_OPENED,
        WINDOW_CLOSED,
        WINDOW_FOCUSED,
        MENU_OPENED,
        DIALOG_OPENED,
        FOLDER_CREATED,
        PAGE_LOADED,
    }
)
"""The kinds (a label's part before the colon) that count as transitions."""


def is_structural(label: str) -> bool:
    """Whether a label such as `window_opened:browser` counts as a transition."""
    return label.partition(":")[0] in STRUCTURAL
