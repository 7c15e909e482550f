"""Whole sessions of simulated people, and the events that production sends of them.

Seeded: the same arguments give the same sessions, on every machine. Demo, evaluation, case studies
and benchmarks draw from here; posting is somebody else's.
"""

import random
from collections.abc import Iterator, Sequence

from ingest.ids import content_id
from ingest.replay.drawn.layout import Layout
from ingest.simulate.hand import COMPACT, Pace, SimulatedAction
from ingest.simulate.person import Person
from ingest.simulate.weights import TaskWeights


def simulate_session(
    seed: int, weights: TaskWeights, *, num_tasks: int, pace: Pace = COMPACT
) -> list[SimulatedAction]:
    """One person's visit: about 14 lines a task at `COMPACT`, 30 at `NATURAL`."""
    person = Person(random.Random(seed), pace, Layout.standard())
    person.spend(weights, num_tasks=num_tasks)
    return person.actions


def simulated_users(seed: int, count: int) -> tuple[str, ...]:
    """Stable pseudonyms, the first ones the same whatever the count."""
    return tuple(f"sim-{content_id('user', str(seed), str(n))[:10]}" for n in range(count))


def wire_events(
    episodes: Sequence[Sequence[SimulatedAction]],
    *,
    session_id: str,
    user_id: str,
    started_at: float,
) -> Iterator[dict[str, object]]:
    """The session's events in order: resets between episodes, an end; `started_at` in s, UTC.

    Each has session_id, user_id, sequence, timestamp, kind and payload; the SDK adds the event id.
    """
    timestamp = started_at
    kinds_and_payloads = _marked(episodes)
    for sequence, (kind, delay_s, payload) in enumerate(kinds_and_payloads):
        timestamp += delay_s
        yield {
            "session_id": session_id,
            "user_id": user_id,
            "sequence": sequence,
            "timestamp": round(timestamp, 4),
            "kind": kind,
            "payload": payload,
        }


def _marked(
    episodes: Sequence[Sequence[SimulatedAction]],
) -> Iterator[tuple[str, float, dict[str, object] | None]]:
    for number, actions in enumerate(episodes):
        if number > 0:
            yield "reset", 1.0, None
        for action in actions:
            yield "action", action.delay_s, action.payload
    yield "end", 1.0, None
