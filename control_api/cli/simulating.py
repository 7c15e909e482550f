"""The command that lets simulated people use the model: seeded, through the SDK."""

import math
import random
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, Url, remote
from control_api.cli.output import CommandFailed, answer

START_EVERY_S = 20.0
USERS_PER_SESSION = 0.5
TASKS_PER_VISIT = 8


def simulate(
    *,
    sessions: Annotated[int, typer.Option(min=1, max=10_000, help="How many visits.")] = 20,
    fresh: Annotated[
        float,
        typer.Option(min=0, max=1, help="Part of what they do that is new: browser, new folders."),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="The same seed: the same people and deeds.")] = 1,
    speed: Annotated[
        float | None,
        typer.Option(min=0.01, help="Times real time. [as fast as the server takes them]"),
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Let simulated people use the model, and send what they did."""
    from ingest.client import Client
    from ingest.simulate.post import PostError, post_sessions

    remote(url, key)
    visits = [list(visit) for visit in _visits(sessions, fresh, seed, is_live=speed is not None)]
    try:
        with Client(url, key) as client:
            posted = post_sessions(visits, client, speed=speed or math.inf)
    except (PostError, ValueError) as error:
        raise CommandFailed(str(error)) from error
    value = {"sessions": len(visits), "events": len(posted), "seed": seed}
    answer(
        value, as_json=as_json, text=f"{len(posted)} events of {len(visits)} sessions are stored"
    )


def _visits(
    sessions: int, fresh: float, seed: int, *, is_live: bool
) -> Iterator[Iterator[dict[str, Any]]]:
    """Wire events of each visit; visits begin every 20 s, from now on or in the time just past.

    Their ids hold the moment of the first, so that the same people may come again.
    """
    from ingest.simulate import (
        FRESH,
        OLD_SKILLS,
        mixed,
        simulate_session,
        simulated_users,
        wire_events,
    )

    weights = mixed(OLD_SKILLS, FRESH, fresh)
    users = simulated_users(seed, math.ceil(USERS_PER_SESSION * sessions))
    chance = random.Random(seed)
    actions = [
        simulate_session(chance.getrandbits(32), weights, num_tasks=TASKS_PER_VISIT)
        for _ in range(sessions)
    ]
    lasts_s = max(
        START_EVERY_S * number + sum(action.delay_s for action in visit)
        for number, visit in enumerate(actions)
    )
    begins_at = time.time() - (0 if is_live else lasts_s)
    for number, visit in enumerate(actions):
        yield wire_events(
            [visit],
            session_id=f"sim-{seed}-{begins_at:.0f}-{number}",
            user_id=users[number % len(users)],
            started_at=begins_at + START_EVERY_S * number,
        )
