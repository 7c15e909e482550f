"""The drawn desktop as a replay environment: actions in, frames and labelled changes out.

Deterministic: the same actions after `reset` give the same frames, on every machine. The size is
that of the frames; coordinates are logical (512x384) at every size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.actions import Action
from ingest.replay.drawn.attempts import attempt
from ingest.replay.drawn.changes import is_structural
from ingest.replay.drawn.layout import Layout
from ingest.replay.drawn.picture import Painter
from ingest.replay.drawn.scene import Scene
from ingest.replay.drawn.state import State, advance
from ingest.replay.environment import Step


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What the screen had shown if an action had had the other outcome.

    `kind` is the label of the change that the action causes (`window_opened:home`; `frame`: had it
    done nothing), or `none:` and the label that it came close to (`frame`: had it acted).
    """

    kind: str
    frame: NDArray[np.uint8]


class DrawnDesktop:
    """A 512x384 desktop, drawn at `width` x `height`; implements `Environment`."""

    name = "drawn"
    version = "1"

    def __init__(self, width: int = 128, height: int = 96, layout: Layout | None = None) -> None:
        self._layout = layout or Layout.standard()
        self._painter = Painter(width, height, self._layout.theme)
        self._state = State(Scene.fresh(self._layout))

    def reset(self) -> None:
        """Close everything, forget folders and clicks."""
        self._state = State(Scene.fresh(self._layout))

    def step(self, action: Action) -> Step:
        """Perform one action; the frame shows the screen a tick later, pointer drawn in."""
        self._state, changes = advance(self._layout, self._state, action)
        return Step(self._painter.frame(self._state.scene, action.x, action.y), changes)

    def counterfactual(self, action: Action) -> Counterfactual | None:
        """What had shown instead, asked before `step(action)`; the desktop stays as it is.

        None where nothing structural happens and the action is no plausible attempt at it, or where
        both outcomes look the same.
        """
        scene = self._state.scene
        after, changes = advance(self._layout, self._state, action)
        kind = next((change for change in changes if is_structural(change)), None)
        if kind is not None:
            return self._contrast(kind, scene, after.scene, action)
        attempted = attempt(self._layout, scene, action)
        if attempted is not None:
            label, acted = attempted
            return self._contrast(f"none:{label}", acted, after.scene, action)
        return self._contrast(changes[0], scene, after.scene, action) if changes else None

    def close(self) -> None:
        """Nothing is held; the environment contract asks for it."""

    def _contrast(
        self, kind: str, other: Scene, true: Scene, action: Action
    ) -> Counterfactual | None:
        frame = self._painter.frame(other, action.x, action.y)
        if np.array_equal(frame, self._painter.frame(true, action.x, action.y)):
            return None
        return Counterfactual(kind, frame)
