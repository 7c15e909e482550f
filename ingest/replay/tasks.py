"""The names of what a person did, from the labels of what changed while they did it."""

from collections.abc import Iterable, Mapping
from typing import Final

_TASKS: Final[Mapping[str, str]] = {
    "window_opened:browser": "open_browser",
    "window_opened:terminal": "open_terminal",
    "window_opened:home": "open_home",
    "window_opened:trash": "open_trash",
    "window_opened:folder": "open_folder",
    "window_closed": "close_window",
    "window_focused": "focus_window",
    "menu_opened": "open_menu",
    "folder_created": "create_folder",
    "page_loaded": "browse_page",
    "command_run": "run_command",
    "scrolled": "scroll",
}


def tasks_of(changes_of_an_episode: Iterable[str]) -> tuple[str, ...]:
    """The tasks that an episode's change labels show, each once, in the order they first appear."""
    tasks = (
        _TASKS.get(change) or _TASKS.get(change.partition(":")[0])
        for change in changes_of_an_episode
    )
    return tuple(dict.fromkeys(task for task in tasks if task is not None))
