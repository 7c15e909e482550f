"""What people do in the demo: bundled logs are shipped, simulated people work through the SDK.

Everything is seeded. Training and held-out people never mix: a visit's split hangs on its user, so
held-out people are those whose pseudonym falls into the `eval` split, and their visits come later.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_api.demo.machine import Machine
from ingest.client import Client
from ingest.event_rows import split_of
from ingest.ship import ShipResult, ship
from ingest.simulate import TaskWeights, simulate_session, simulated_users, wire_events
from ingest.simulate.post import post_sessions

LOGS = Path(__file__).parent / "logs"
NUM_USERS = 12
TASKS_PER_VISIT = 11
DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Some people's visits: `days_ago` is when the first begins."""

    name: str
    weights: TaskWeights
    num_visits: int
    seed: int
    days_ago: float
    is_held_out: bool = False


@dataclass(slots=True)
class Sent:
    """What the server acknowledged: event ids of simulated visits, and lines of shipped logs."""

    event_ids: set[str] = field(default_factory=set)
    num_lines: int = 0


def bundled_logs() -> tuple[list[Path], list[Path]]:
    """The bundled logs of a deployed NeuralOS in order of time, first and second half."""
    files = sorted(LOGS.glob("session_*.jsonl"), key=lambda path: int(path.stem.split("_")[-1]))
    middle = len(files) // 2
    return files[:middle], files[middle:]


def ship_logs(machine: Machine, key: str, files: Sequence[Path], sent: Sent) -> ShipResult:
    """Ship log files as `stovetop ship` does."""
    result = ship(files, machine.url, key, cursor_path=machine.data / "ship.json")
    sent.num_lines += result.sent + result.duplicate
    return result


def post_crowd(machine: Machine, key: str, crowd: Crowd, sent: Sent) -> int:
    """Let a crowd use the model, as fast as the server takes it; the number of events."""
    visits = list(_visits(crowd, machine.settings.eval_percent))
    with Client(machine.url, key, on_acknowledged=sent.event_ids.update) as client:
        return len(post_sessions(visits, client))


def _visits(crowd: Crowd, eval_percent: int) -> Iterator[list[dict[str, Any]]]:
    wanted = "eval" if crowd.is_held_out else "train"
    population = simulated_users(crowd.seed, 40 * NUM_USERS)
    users = [user for user in population if split_of(user, "", eval_percent) == wanted][:NUM_USERS]
    begins_at = time.time() - crowd.days_ago * DAY_S
    for number in range(crowd.num_visits):
        actions = simulate_session(
            1_000 * crowd.seed + number, crowd.weights, num_tasks=TASKS_PER_VISIT
        )
        yield list(
            wire_events(
                [actions],
                session_id=f"{crowd.name}-{crowd.seed}-{number}",
                user_id=users[number % len(users)],
                started_at=begins_at + 60.0 * number,
            )
        )
