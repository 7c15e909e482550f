"""What simulated people do on a day: tasks and how often each, relative to the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Task: TypeAlias = Literal[
    "browse_page",
    "close_window",
    "create_folder",
    "focus_window",
    "look_around",
    "open_browser",
    "open_folder",
    "open_home",
    "open_terminal",
    "open_trash",
    "run_command",
    "scroll",
]
TASKS: Final[tuple[Task, ...]] = get_args(Task)


@dataclass(frozen=True)
class TaskWeights:
    """Weights of a day's tasks; a task that is left out is not done.

    Raises ValueError for an unknown task, a negative weight, or no positive one.
    """

    weights: Mapping[Task, float]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(TASKS))
        if unknown:
            raise ValueError(f"unknown tasks {unknown}; the tasks are {list(TASKS)}")
        if min(self.weights.values(), default=0.0) < 0 or not sum(self.weights.values()) > 0:
            raise ValueError("task weights must not be negative and need a positive one")

    def share(self, task: Task) -> float:
        """The task's part of all, 0 to 1."""
        return self.weights.get(task, 0.0) / sum(self.weights.values())


OLD_SKILLS: Final = TaskWeights(
    {
        "open_terminal": 3.0,
        "open_home": 3.0,
        "open_trash": 3.0,
        "close_window": 4.0,
        "focus_window": 2.0,
        "run_command": 1.5,
        "scroll": 0.5,
        "look_around": 2.0,
    }
)
"""What the base model knows: terminal, home and trash, opened, closed, raised and typed into."""

FRESH: Final = TaskWeights(
    {
        "open_browser": 3.0,
        "browse_page": 3.0,
        "create_folder": 4.0,
        "close_window": 1.5,
        "open_folder": 0.5,
        "open_terminal": 0.3,
        "open_home": 0.3,
        "scroll": 0.4,
        "look_around": 1.0,
    }
)
"""What people do lately: mostly the browser and new folders."""


def mixed(old: TaskWeights, fresh: TaskWeights, share: float) -> TaskWeights:
    """A day on which `share` (0 to 1) of what is done is fresh, the rest old."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share}; it must be between 0 and 1")
    return TaskWeights(
        {task: (1 - share) * old.share(task) + share * fresh.share(task) for task in TASKS}
    )
