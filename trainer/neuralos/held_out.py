"""Held-out episodes, replayed for judgement: what was on the screen, and what could have been.

In: the actions of an episode, the keys that an unrecorded earlier part left held included. Out: a
`HeldOut` with the true frames, the model's action vectors and the cases: steps that changed the
screen's structure, each with the screen *had the action done nothing*, and steps that came close,
each with the screen *had it acted*. Only the drawn desktop can tell what could have been.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.actions import Action
from ingest.keyboard import HeldKeys
from ingest.replay.drawn import DrawnDesktop, is_structural
from trainer.neuralos.records import action_vector

NO_CHANGE = "none:"


@dataclass(frozen=True, eq=False)
class Case:
    """One step with both outcomes: `kind` is the label that happened or nearly did."""

    position: int
    kind: str
    is_change: bool
    counterfactual: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One episode: frames uint8 (T, H, W, 3), actions int16 (T, 184), and its cases."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.int16]
    cases: tuple[Case, ...]


def replay(actions: Sequence[Action], *, width: int, height: int) -> HeldOut:
    """Replay an episode's actions, none missing before the first; at least one action."""
    desktop = DrawnDesktop(width, height)
    held = HeldKeys()
    frames, vectors, cases = [], [], []
    for position, action in enumerate(actions):
        other = desktop.counterfactual(action)
        if other is not None and (case := _case(position, other.kind, other.frame)) is not None:
            cases.append(case)
        step = desktop.step(action)
        for key in action.keys_down:
            held.press(key)
        for key in action.keys_up:
            held.release(key)
        frames.append(step.frame)
        vectors.append(_vector(action, held, any(map(is_structural, step.changes))))
    desktop.close()
    return HeldOut(np.stack(frames), np.stack(vectors), tuple(cases))


def _case(position: int, kind: str, counterfactual: NDArray[np.uint8]) -> Case | None:
    label = kind.removeprefix(NO_CHANGE)
    if not is_structural(label):
        return None
    return Case(position, label, not kind.startswith(NO_CHANGE), counterfactual)


def _vector(action: Action, held: HeldKeys, is_change: bool) -> NDArray[np.int16]:
    return action_vector(
        x=int(action.x),
        y=int(action.y),
        is_left_click=action.left,
        is_right_click=action.right,
        is_change=is_change,
        held=held.indices(),
    )
