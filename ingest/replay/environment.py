"""What a replay needs of a desktop: reset it, act on it, see what it shows.

Frame i is the screen one tick (1/15 s) after action i with the pointer drawn in, so frames and
actions are always equally many. Implementations: the drawn desktop (`ingest.replay.drawn`).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.actions import Action

TICKS_PER_SECOND = 15


@dataclass(frozen=True, slots=True)
class Step:
    """What one action led to: uint8 RGB (height, width, 3), and labels such as `menu_opened`."""

    frame: NDArray[np.uint8]
    changes: tuple[str, ...]


class Environment(Protocol):
    """A desktop that people's actions are replayed in; a sample records its name and version."""

    name: str
    version: str

    def reset(self) -> None:
        """Return to the state in which every episode begins."""
        ...

    def step(self, action: Action) -> Step:
        """Perform one action and look at the screen one tick later."""
        ...

    def close(self) -> None:
        """Give back what the desktop holds."""
        ...
