"""Judges a model on held-out episodes: a suite's transitions, the pointer, and free running.

In: held-out episodes' actions, made an `Exam` once, and any number of models. Out: a `SuiteResult`
each. Every number has the encoder's own floor beside it: the true frames, encoded and decoded.
Deterministic: the same episodes and weights give the same result.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.actions import Action
from trainer.neuralos.accuracy import Balanced, Share, evenly, is_nearer_truth
from trainer.neuralos.cursor import PointerFinder, pointer_error
from trainer.neuralos.encoder import Encoder
from trainer.neuralos.held_out import Case, HeldOut, replay
from trainer.neuralos.model import NeuralOS
from trainer.neuralos.rollout import Track, autoregress, predict

SUITES: Final[Mapping[str, tuple[str, ...]]] = {
    "fresh": (
        "window_opened:browser",
        "menu_opened",
        "dialog_opened",
        "folder_created",
        "page_loaded",
    ),
    "old_skills": (
        "window_opened:terminal",
        "window_opened:home",
        "window_opened:trash",
        "window_closed:terminal",
        "window_closed:home",
        "window_closed:trash",
        "window_focused:terminal",
        "window_focused:home",
        "window_focused:trash",
    ),
}
MAX_CASES = 120  # of each half
NUM_POINTER_FRAMES = 60
ROLLOUT_EPISODES = 4
ROLLOUT_FRAMES = 48


@dataclass(frozen=True)
class SuiteResult:
    """One suite on one model; `floor_*` is the encoder alone under the same test.

    Pointer errors are logical pixels (512x384); rollout errors are RMSE on [0, 1] pixels.
    """

    suite: str
    balanced_accuracy: float
    interval: tuple[float, float]
    num_change: int
    num_no_change: int
    change_accuracy: float
    no_change_accuracy: float
    by_kind: dict[str, tuple[int, int]]
    floor_balanced_accuracy: float
    pointer_error_px: float
    floor_pointer_error_px: float
    rollout_rmse: float | None  # None: no episode is long enough
    floor_rollout_rmse: float | None
    num_episodes: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class _Judged:
    case: Case
    true: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    rebuilt: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Shown:
    judged: list[_Judged]
    pointer_error_px: float
    floor_pointer_error_px: float


@dataclass(frozen=True, eq=False)
class Exam:
    """A suite made ready for any number of models: replayed, chosen from and encoded once."""

    suite: str
    encoder: Encoder
    held_out: list[HeldOut]
    tracks: list[Track]
    chosen: list[list[Case]]


def prepare(encoder: Encoder, suite: str, episodes: Iterable[Sequence[Action]]) -> Exam:
    """Make a suite ready; takes episodes in order until both halves have MAX_CASES.

    Raises ValueError for an unknown suite, or episodes without a case of both halves.
    """
    if suite not in SUITES:
        raise ValueError(f"suite: {suite!r} is none of {', '.join(SUITES)}")
    held_out = _enough(episodes, SUITES[suite], encoder)
    chosen = _choose(held_out, SUITES[suite])
    if not any(chosen):
        raise ValueError(f"suite {suite!r}: the held-out episodes hold no case of it")
    tracks = [Track(encoder.encode(episode.frames), episode.actions) for episode in held_out]
    return Exam(suite, encoder, held_out, tracks, chosen)


def judge(model: NeuralOS, exam: Exam) -> SuiteResult:
    """Judge one model."""
    shown = _show(model, exam)
    balanced = _balanced([(one.case, one.predicted, one.true) for one in shown.judged])
    floor = _balanced([(one.case, one.rebuilt, one.true) for one in shown.judged])
    rollout, rollout_floor = _rollout(model, exam)
    return SuiteResult(
        suite=exam.suite,
        balanced_accuracy=balanced.value,
        interval=balanced.interval,
        num_change=balanced.changes.total,
        num_no_change=balanced.no_changes.total,
        change_accuracy=balanced.changes.value,
        no_change_accuracy=balanced.no_changes.value,
        by_kind=_by_kind(shown.judged),
        floor_balanced_accuracy=floor.value,
        pointer_error_px=shown.pointer_error_px,
        floor_pointer_error_px=shown.floor_pointer_error_px,
        rollout_rmse=rollout,
        floor_rollout_rmse=rollout_floor,
        num_episodes=len(exam.held_out),
    )


def _enough(
    episodes: Iterable[Sequence[Action]], kinds: Sequence[str], encoder: Encoder
) -> list[HeldOut]:
    """Episodes in order until there are MAX_CASES of both halves."""
    config = encoder.config
    held_out: list[HeldOut] = []
    counts = {True: 0, False: 0}
    for actions in episodes:
        if min(counts.values()) >= MAX_CASES:
            break
        episode = replay(actions, width=config.width, height=config.height)
        its = [case for case in episode.cases if case.kind in kinds]
        for case in its:
            counts[case.is_change] += 1
        if its:
            held_out.append(episode)
    return held_out


def _choose(held_out: Sequence[HeldOut], kinds: Sequence[str]) -> list[list[Case]]:
    """As many changes as no-changes, evenly spread over the episodes; per episode."""
    numbered = [
        (number, case)
        for number, episode in enumerate(held_out)
        for case in episode.cases
        if case.kind in kinds
    ]
    halves = [[item for item in numbered if item[1].is_change is half] for half in (True, False)]
    wanted = min(MAX_CASES, *map(len, halves))
    chosen: list[list[Case]] = [[] for _ in held_out]
    for half in halves:
        for index in evenly(len(half), wanted):
            number, case = half[index]
            chosen[number].append(case)
    return chosen


def _show(model: NeuralOS, exam: Exam) -> _Shown:
    """Predict and rebuild the chosen cases' frames and the pointer's, in one pass."""
    encoder, held_out, tracks = exam.encoder, exam.held_out, exam.tracks
    finder = PointerFinder(encoder.config.width, encoder.config.height)
    pointers = [_pointer_frames(finder, track.actions, len(tracks)) for track in tracks]
    cases = [[case.position for case in its] for its in exam.chosen]
    wanted = [[*of_cases, *others] for of_cases, others in zip(cases, pointers, strict=True)]
    predicted = encoder.decode(np.concatenate(predict(model, tracks, wanted)))
    rebuilt = encoder.decode(
        np.concatenate([track.latents[at] for track, at in zip(tracks, wanted, strict=True)])
    )
    asked = [
        (episode, case, position)
        for episode, its, positions in zip(held_out, exam.chosen, wanted, strict=True)
        for case, position in zip_longest(its, positions)
    ]
    judged = [
        _Judged(case, episode.frames[case.position], predicted[row], rebuilt[row])
        for row, (episode, case, _) in enumerate(asked)
        if case is not None
    ]
    rows = [row for row, (_, case, _) in enumerate(asked) if case is None]
    actions = np.stack([asked[row][0].actions[asked[row][2]] for row in rows])
    return _Shown(
        judged,
        pointer_error_px=pointer_error(finder, predicted[rows], actions),
        floor_pointer_error_px=pointer_error(finder, rebuilt[rows], actions),
    )


def _pointer_frames(
    finder: PointerFinder, actions: NDArray[np.int16], num_episodes: int
) -> list[int]:
    """An episode's part of the frames in which the pointer is looked for, evenly spread."""
    whole = np.flatnonzero(finder.shows_whole(actions))
    chosen = evenly(len(whole), max(NUM_POINTER_FRAMES // num_episodes, 1))
    return [int(whole[index]) for index in chosen]


def _balanced(shown: Sequence[tuple[Case, NDArray[np.uint8], NDArray[np.uint8]]]) -> Balanced:
    halves = []
    for half in (True, False):
        right = [
            is_nearer_truth(frame, true, case.counterfactual)
            for case, frame, true in shown
            if case.is_change is half
        ]
        halves.append(Share(sum(right), len(right)))
    return Balanced(*halves)


def _by_kind(judged: Sequence[_Judged]) -> dict[str, tuple[int, int]]:
    """Per label, no-changes with `none:` before it: how many were right, of how many."""
    counts: dict[str, tuple[int, int]] = {}
    for one in judged:
        label = one.case.kind if one.case.is_change else f"none:{one.case.kind}"
        right, total = counts.get(label, (0, 0))
        is_right = is_nearer_truth(one.predicted, one.true, one.case.counterfactual)
        counts[label] = right + is_right, total + 1
    return dict(sorted(counts.items()))


def _rollout(model: NeuralOS, exam: Exam) -> tuple[float, float] | tuple[None, None]:
    encoder, held_out, tracks = exam.encoder, exam.held_out, exam.tracks
    long = [n for n, track in enumerate(tracks) if len(track.actions) >= ROLLOUT_FRAMES]
    if not long:
        return None, None
    first = long[:ROLLOUT_EPISODES]
    actions = np.stack([tracks[number].actions[:ROLLOUT_FRAMES] for number in first])
    true = np.concatenate([held_out[number].frames[:ROLLOUT_FRAMES] for number in first])
    latents = np.concatenate([tracks[number].latents[:ROLLOUT_FRAMES] for number in first])
    played = autoregress(model, actions)
    own = encoder.decode(played.reshape(-1, *played.shape[2:]))
    return _rmse(own, true), _rmse(encoder.decode(latents), true)


def _rmse(shown: NDArray[np.uint8], true: NDArray[np.uint8]) -> float:
    difference = (shown.astype(np.float32) - true) / 255
    return float(np.sqrt(np.square(difference).mean()))
