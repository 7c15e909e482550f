"""One machine or many workers on brokers: the same events give the same buffer, bit for bit.

One of each worker on the embedded log and SQLite, beside 2 APIs, 4 consumers, 4 replay workers and
2 encoders that share one Kafka and one PostgreSQL.
"""

import itertools
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest
from sqlalchemy import select

from ingest.buffer import sample_key
from ingest.database import read
from ingest.shard_store import open_store
from ingest.shards import read_span, split_members
from ingest.tables import DeadLetter, Episode, EventRow, Placement, Sample, SessionRow, Shard
from tests.crashes.installation import Installation, Servers, install
from tests.crashes.machine import LINE, Machine
from tests.crashes.rest import wait_for_rest
from tests.crashes.zygote import Zygote
from tests.intake import START, wire_event
from tests.ports import unused_port
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # of a busy machine; it takes less than a minute

NUM_SESSIONS = 12
MANY = ("consumer", "consumer-2", "consumer-3", "consumer-4")
MANY += ("replay", "replay-2", "replay-3", "replay-4", "encode", "encode-2")
DOES = {"consumer": "records_consumed", "replay": "episode_replayed", "encode": "shard_encoded"}

Batch = list[dict[str, object]]


@dataclass(frozen=True)
class Buffer:
    """What an installation holds, but for numbers, times and how samples came together in files."""

    events: frozenset[tuple[object, ...]]
    dead_letters: frozenset[tuple[object, ...]]
    sessions: frozenset[tuple[object, ...]]
    episodes: frozenset[tuple[object, ...]]
    samples: frozenset[tuple[object, ...]]
    members: dict[tuple[str, str], dict[str, bytes]]  # by sample key and representation


def first_visits() -> list[Batch]:
    """Visits, each in one request, so that no consumer can cut one in its midst; and texts."""
    visits = []
    for number in range(NUM_SESSIONS):
        name = f"visit-{number}"
        visit = [
            wire_event(place, name, user_id=f"user-{number % 5}") for place in range(4 + number % 4)
        ]
        visit.append(wire_event(len(visit), name, kind="reset", payload=None))
        visit += [wire_event(len(visit) + place, name) for place in range(3)]
        if number % 3:
            visit.append(wire_event(len(visit), name, kind="end", payload=None))
        visits.append(visit)
    texts = [
        wire_event(0, f"text-{n}", kind="document", payload={"text": f"text {n}"}) for n in range(9)
    ]
    return [*visits, texts]


def later_visits() -> list[Batch]:
    """Some go on, which makes their last episodes' next versions; one contradicts itself."""
    later: list[Batch] = [
        [
            wire_event(100 + place, f"visit-{number}", timestamp=START + 4 + place)
            for place in range(2)
        ]
        for number in range(0, NUM_SESSIONS, 2)
    ]
    return [*later, [wire_event(0, "visit-1", payload={"x": 1, "y": 1})]]


def send(urls: list[str], key: str, batches: list[Batch]) -> None:
    """Each batch to the next of the addresses, until it is taken."""
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=30.0) as client:
        for url, batch in zip(itertools.cycle(urls), batches, strict=False):
            wait_until(lambda url=url, batch=batch: is_taken(client, url, batch), within_s=120.0)


def is_taken(client: httpx.Client, url: str, batch: Batch) -> bool:
    headers = {"Content-Type": "application/json"}
    try:
        answer = client.post(f"{url}/v1/events", content=orjson.dumps(batch), headers=headers)
    except httpx.TransportError:  # it is about to listen
        return False
    return answer.status_code == 202


def fill(installation: Installation, urls: list[str]) -> Buffer:
    """What an installation makes of all visits."""
    for batches in (first_visits(), later_visits()):
        send(urls, installation.key, batches)
        wait_for_rest(installation)
    return contents(installation)


def contents(installation: Installation) -> Buffer:
    store = open_store(installation.settings)
    with read(installation.engine) as session:
        paths = dict(session.execute(select(Shard.shard_id, Shard.path)).all())
        placed = session.execute(
            select(Sample, Placement).join(Placement, Placement.sample_number == Sample.number)
        )
        members = {
            (key_of(sample), place.representation): split_members(
                read_span(store.local(paths[place.shard_id]), place.offset, place.length)
            )
            for sample, place in placed
        }
        return Buffer(
            events=frozenset(
                (e.event_id, e.session_key, e.kind, e.digest, e.episode_id, e.position)
                for e in session.scalars(select(EventRow))
            ),
            dead_letters=frozenset(
                (d.dead_letter_id, d.code, bytes(d.original))
                for d in session.scalars(select(DeadLetter))
            ),
            sessions=frozenset(
                (s.session_key, s.user_id, s.split, s.num_events, s.last_timestamp)
                for s in session.scalars(select(SessionRow))
            ),
            episodes=frozenset(
                (e.episode_id, e.version, e.state, e.digest, e.num_actions, e.tasks)
                for e in session.scalars(select(Episode))
            ),
            samples=frozenset(
                (key_of(s), s.changes, s.ticks_since_change, s.split, s.retired_revision is None)
                for s in session.scalars(select(Sample))
            ),
            members=members,
        )


def log_of(machine: Machine, program: str) -> str:
    return machine.log_of(program).read_text()


def key_of(sample: Sample) -> str:
    return sample_key(sample.episode_id, sample.episode_version, sample.position)


def test_many_workers_on_brokers_and_postgresql_give_the_buffer_of_one_machine(
    zygote: Zygote, servers: Servers, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alone = install(stack)
        one = stack.enter_context(closing(Machine(zygote, alone, tmp_path / "one")))
        one.start(*LINE)
        shared = install(stack, servers)
        many = stack.enter_context(closing(Machine(zygote, shared, tmp_path / "many")))
        second = str(unused_port())
        many.start("api", *MANY)
        many.start("api-2", STOVETOP_PORT=second)
        wanted = fill(alone, [alone.url])
        found = fill(shared, [shared.url, f"http://127.0.0.1:{second}"])
    for program, did in DOES.items():
        at_work = [name for name in MANY if name.startswith(program) and did in log_of(many, name)]
        assert len(at_work) > 1, f"the work was not shared: {at_work}"
    assert len(wanted.episodes) > 2 * NUM_SESSIONS
    assert {version for _, version, *_ in wanted.episodes} == {1, 2}
    assert {name.partition(":")[0] for _, name in wanted.members} == {"frame", "latent", "document"}
    assert found == wanted
