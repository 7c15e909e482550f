"""Records one episode: its actions go through a desktop, frames and labels come out.

In: an episode's actions and an environment. Out: a shard whose samples are `{key}.png` (the screen
one tick after the action, lossless) and `{key}.json` (the action as understood, the keys held after
it, the labels of what changed), and what the index needs of each. Guaranteed: as many samples as
actions, in their order; the same actions and desktop give the same bytes. What goes wrong in the
desktop or in a payload is a `ReplayError`, the episode's own; anything else is not its fault.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from ingest.actions import Action
from ingest.buffer import NewSample, sample_key
from ingest.cut import EpisodeActions
from ingest.keyboard import HeldKeys
from ingest.replay.drawn import is_structural
from ingest.replay.environment import Environment, Step
from ingest.replay.tasks import tasks_of
from ingest.shard_store import ShardStore
from ingest.shards import ShardWriter, Span, WrittenShard
from ingest.tables import EventRow

FOLDER = "frames"
PNG_LEVEL = 3


class ReplayError(Exception):
    """An episode can't be replayed; the message is kept with it."""


@dataclass(frozen=True)
class Recording:
    """One replayed episode: its shard, and its samples with where they lie in it."""

    shard: WrittenShard
    samples: tuple[NewSample, ...]
    spans: tuple[Span, ...]
    environment: str
    tasks: tuple[str, ...]


def record(
    environment: Environment,
    actions: EpisodeActions,
    store: ShardStore,
    *,
    key: tuple[str, int],
    before_step: Callable[[], None],
) -> Recording:
    """Replay an episode and publish its shard; `key` is (episode_id, version).

    `before_step` is called before every step; what it raises ends the recording. Raises
    ReplayError for what the desktop or a payload does, OSError for what the disk does.
    """
    tape = _Tape(environment, before_step)
    for event in actions.unrecorded:
        tape.play(event)
    samples: list[NewSample] = []
    spans: list[Span] = []
    with ShardWriter(store, FOLDER) as writer:
        for position, event in enumerate(actions.recorded):
            tick = tape.play(event)
            sample = _sample(position, event, tick, samples[-1] if samples else None)
            name = sample_key(*key, position)
            described = _described(event, tick, sample, tape.environment)
            spans.append(
                writer.add([(f"{name}.png", png(tick.step.frame)), (f"{name}.json", described)])
            )
            samples.append(sample)
        shard = writer.publish()
    labels = [label for sample in samples for label in sample.changes]
    return Recording(shard, tuple(samples), tuple(spans), tape.environment, tasks_of(labels))


def environment_of(desktop: Environment) -> str:
    """The name and version that samples and runs know a desktop by."""
    return f"{desktop.name}/{desktop.version}"


def png(frame: NDArray[np.uint8]) -> bytes:
    """A frame, uint8 RGB (height, width, 3), as a lossless PNG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()


@dataclass(frozen=True)
class _Tick:
    """What became of one event: `held` are the keys down after it."""

    action: Action
    is_auto: bool
    held: tuple[str, ...]
    step: Step


class _Tape:
    """An episode in progress: the desktop and the keys that are held."""

    def __init__(self, desktop: Environment, before_step: Callable[[], None]) -> None:
        self.environment = environment_of(desktop)
        self._desktop = desktop
        self._before_step = before_step
        self._keys = HeldKeys()
        try:
            desktop.reset()
        except Exception as error:
            raise ReplayError(f"the desktop's reset: {error!r}") from error

    def play(self, event: EventRow) -> _Tick:
        self._before_step()
        try:
            payload = orjson.loads(event.payload_json)
            action = Action.from_payload(payload)
            step = self._desktop.step(action)
        except Exception as error:
            raise ReplayError(f"event {event.event_id}: {error!r}") from error
        for key in action.keys_down:
            self._keys.press(key)
        for key in action.keys_up:
            self._keys.release(key)
        is_auto = payload.get("is_auto_input") is True
        return _Tick(action, is_auto, tuple(sorted(self._keys.held)), step)


def _sample(position: int, event: EventRow, tick: _Tick, before: NewSample | None) -> NewSample:
    since = before.ticks_since_change if before else None
    is_change = any(is_structural(label) for label in tick.step.changes)
    return NewSample(
        position=position,
        event_number=event.number,
        timestamp=event.timestamp,
        changes=tick.step.changes,
        ticks_since_change=0 if is_change else None if since is None else since + 1,
        is_auto=tick.is_auto,
    )


def _described(event: EventRow, tick: _Tick, sample: NewSample, environment: str) -> bytes:
    return orjson.dumps(
        {
            "event_id": event.event_id,
            "timestamp": event.timestamp,
            "action": tick.action,
            "held": tick.held,
            "changes": sample.changes,
            "ticks_since_change": sample.ticks_since_change,
            "environment": environment,
        }
    )
