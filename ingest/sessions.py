"""Sessions to episodes: pure rules, no clock, no SQL.

In: the events of one session in any order. Out: its episodes in order. Guaranteed: every action is
in exactly one episode, in order; nothing but the events decides.

The rules:
- Order is `sequence` where every event has one (ties: timestamp, event_id), so arrival does not
  matter; else (timestamp, arrival), which is how log lines, which have none, were written.
- A reset starts a new episode. So does a gap of more than `idle_s` in event time.
- An action at most 100 ms after a reset, while nothing else has happened since, was in flight when
  the reset came: it belongs to the episode before, where there is one.
- An end closes the episode; an action after it joins the last episode, and leaves it open again. A
  missing end loses nothing: the episode is only open.
- More than `max_actions` are cut; the later part replays all earlier ones first, unrecorded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ingest.ids import content_id

IN_FLIGHT_S = 0.1


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """What the rules need of an event; `number` grows with arrival."""

    number: int
    event_id: str
    kind: str
    sequence: int | None
    timestamp: float


@dataclass(frozen=True, slots=True)
class CutEpisode:
    """Actions to record, after `num_unrecorded` earlier ones that only bring the desktop there."""

    actions: tuple[SessionEvent, ...]
    num_unrecorded: int
    digest: str  # of all that its replay depends on: the ids of both kinds, in order
    is_open: bool  # later events may still join it


@dataclass(slots=True)
class _Stretch:
    """What lies between two boundaries; it may stay without actions."""

    reset_at: float | None = None
    actions: list[SessionEvent] = field(default_factory=list)
    is_open: bool = True


def in_order(events: Iterable[SessionEvent]) -> list[SessionEvent]:
    """The session's events in the order in which they happened."""
    events = list(events)
    if all(event.sequence is not None for event in events):
        return sorted(events, key=lambda event: (event.sequence, event.timestamp, event.event_id))
    return sorted(events, key=lambda event: (event.timestamp, event.number))


def cut(events: Iterable[SessionEvent], *, idle_s: float, max_actions: int) -> list[CutEpisode]:
    """Cut one session's events into its episodes, of one action at least."""
    timed = in_order(event for event in events if event.kind != "document")
    stretches = _stretches(timed, idle_s)
    return [
        episode
        for index, stretch in enumerate(stretches)
        for episode in _parts(
            stretch.actions,
            max_actions,
            is_open=stretch.is_open and index == len(stretches) - 1,
        )
    ]


def _stretches(events: Sequence[SessionEvent], idle_s: float) -> list[_Stretch]:
    stretches = [_Stretch()]
    for index, event in enumerate(events):
        if index and _elapsed_s(events[index - 1].timestamp, event.timestamp) > idle_s:
            stretches.append(_Stretch())
        if event.kind == "reset":
            stretches.append(_Stretch(reset_at=event.timestamp))
        elif event.kind == "end":
            stretches[-1].is_open = False
        else:
            joined = _joined(stretches, event.timestamp)
            joined.actions.append(event)
            joined.is_open = True
    return stretches


def _joined(stretches: Sequence[_Stretch], timestamp: float) -> _Stretch:
    """The stretch that an action belongs to: the last, or the one before a reset in flight."""
    for stretch in reversed(stretches):
        if stretch.actions:
            return stretch
        if stretch.reset_at is None:
            break
        if not 0 <= _elapsed_s(stretch.reset_at, timestamp) <= IN_FLIGHT_S:
            break
    return stretches[-1]


def _elapsed_s(start: float, end: float) -> float:
    """Seconds between two timestamps; today's, as floats, are true to a quarter microsecond."""
    return round(end - start, 6)


def _parts(
    actions: Sequence[SessionEvent], max_actions: int, *, is_open: bool
) -> Iterator[CutEpisode]:
    digest = ""
    for start in range(0, len(actions), max_actions):
        part = tuple(actions[start : start + max_actions])
        is_last = start + max_actions >= len(actions)
        digest = content_id(digest, *[action.event_id for action in part])
        yield CutEpisode(part, start, digest, is_open=is_open and is_last)
