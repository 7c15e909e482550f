"""Somebody is forgotten: no byte of theirs is left, nothing of anybody else's is touched."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
import pytest
from sqlalchemy import select

from ingest.actions import Action
from ingest.buffer import DOCUMENT, FRAME
from ingest.database import read
from ingest.forgetting.forget import Forgetting, Outcome
from ingest.forgetting.tombstones import Identity
from ingest.log import NewRecord
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.environment import Step
from ingest.replay.worker import ReplayWorker
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.shards import read_span, split_members
from ingest.tables import Placement, Sample, SessionRow, Shard, Tombstone
from tests.databases import Database
from tests.ingest.forgetting.traces import files_with
from tests.intake import Intake, wire_event
from tests.stock import END, Stocked

TYPED = "correct-horse-battery"
ANN = "ann-0c41"
VISIT = "visit-of-ann"

KILLED_AT_A_COMMIT = """
import os, signal, sys
from sqlalchemy import event
from ingest.database import open_engine
from ingest.forgetting.forget import Forgetting
from ingest.forgetting.tombstones import Identity
from ingest.log import open_log
from ingest.settings import Settings
from ingest.shard_store import open_store

settings, left = Settings(), [int(sys.argv[1])]
engine = open_engine(settings.resolved_database_url)

def count(connection):
    left[0] -= not connection.get_execution_options().get("postgresql_readonly")
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(engine, "commit", count)
Forgetting(engine, open_store(settings), open_log(settings)).forget(
    Identity("user", "demo", sys.argv[2])
)
"""


@dataclass(frozen=True)
class World:
    """An installation in which Ann and Bob were, with an encoded line up to the buffer."""

    intake: Intake
    database: Database

    def forget(self, noun: str = "user", name: str = ANN) -> Outcome:
        intake = self.intake
        store = open_store(intake.settings)
        who = Identity(noun, "demo", name)  # type: ignore[arg-type]  # both are nouns of it
        return Forgetting(intake.engine, store, intake.event_log).forget(who)

    def traces(self) -> Sequence[str]:
        return files_with(self.intake.settings, self.database, TYPED, ANN, VISIT)

    def work(self) -> None:
        Stocked(self.intake).work()

    def texts(self) -> list[bytes]:
        """What a trainer would read, of all documents."""
        query = (
            select(Shard.path, Placement.offset, Placement.length)
            .join(Placement, Placement.shard_id == Shard.shard_id)
            .join(Sample, Sample.number == Placement.sample_number)
            .where(Placement.representation == DOCUMENT, Sample.retired_revision.is_(None))
            .order_by(Sample.number)
        )
        store = open_store(self.intake.settings)
        with read(self.intake.engine) as session:
            rows = session.execute(query).all()
        return [split_members(read_span(store.local(path), *span))["txt"] for path, *span in rows]

    def findings(self) -> list[tuple[str, str]]:
        return Stocked(self.intake).findings()


def of_ann(number: int, **changed: object) -> dict[str, object]:
    said = {"user_id": ANN, "payload": {"x": number, "note": TYPED, "keys_down": ["a"]}}
    return wire_event(number, VISIT) | said | changed


def text(number: int, session_id: str, words: str, **changed: object) -> dict[str, object]:
    return wire_event(
        number, session_id, **({"kind": "document", "payload": {"text": words}} | changed)
    )


@pytest.fixture
def world(intake: Intake, database: Database) -> World:
    """Both have acted and written; all of it is in the buffer."""
    world = World(intake, database)
    for visit, user in ((VISIT, ANN), ("visit-of-bob", "bob")):
        note = TYPED if user == ANN else "hello"
        acts = [
            wire_event(n, visit, user_id=user, payload={"x": n, "note": note}) for n in range(40)
        ]
        intake.post(*acts, wire_event(40, visit, user_id=user, **END))
        words = f"{note} by {user}"
        intake.post(text(50, f"{visit}-texts", words, user_id=user))
    torn = orjson.dumps({"session_id": VISIT, "inputs": TYPED})
    intake.post_log(torn + b"\n" + torn[:-4])
    world.work()
    return world


def test_no_byte_of_a_forgotten_user_is_left(world: World) -> None:
    assert world.traces()
    outcome = world.forget()
    assert world.traces() == []
    assert (outcome.num_sessions, outcome.num_events, outcome.num_samples) == (2, 42, 41)
    assert outcome.num_dead_letters == 2
    assert outcome.log_until is None


def test_what_others_sent_stays_as_it_was(world: World) -> None:
    world.forget()
    assert world.texts() == [b"hello by bob"]
    assert world.findings() == []
    assert [row.user_id for row in world.intake.sessions()] == ["bob", "bob"]


def test_a_forgotten_session_goes_and_its_users_others_stay(world: World) -> None:
    outcome = world.forget("session", VISIT)
    assert (outcome.num_sessions, outcome.num_samples) == (1, 40)
    assert [row.session_id for row in world.intake.sessions() if row.user_id == ANN] == [
        f"{VISIT}-texts"
    ]


def test_to_forget_again_finds_nothing_and_is_no_error(world: World) -> None:
    first = world.forget()
    again = world.forget()
    assert again.tombstone_id == first.tombstone_id
    assert (again.num_sessions, again.num_events, again.num_shards) == (0, 0, 0)


def test_the_tombstones_name_nobody_and_are_finished(world: World) -> None:
    world.forget()
    tombstones = world.intake.rows(Tombstone)
    assert len(tombstones) == 3
    assert all(row.finished_at is not None for row in tombstones)


def test_what_still_lies_in_the_log_is_gone_before_it_is_a_row(
    world: World, database: Database
) -> None:
    world.intake.post(of_ann(60), of_ann(61, session_id="unseen", event_id="u-1"))
    world.intake.post(wire_event(62, "unseen", payload={"note": TYPED}))
    world.intake.post(wire_event(63, "of-bob", user_id="bob"))
    world.forget()
    assert world.traces() == []
    world.work()
    assert [row.session_id for row in world.intake.sessions()][-1] == "of-bob"
    assert files_with(world.intake.settings, database, TYPED, "unseen") == []


def test_what_was_read_from_the_log_before_does_not_come_in_after(world: World) -> None:
    """As from Kafka, whose records nobody can change, or from a backup of the log."""
    world.intake.post(of_ann(60))
    with world.intake.event_log.reader(lambda _partition: 0) as reader:  # type: ignore[attr-defined]
        records = reader.poll(0, 1_000)
    world.forget()
    world.intake.event_log.append([NewRecord(each.partition, each.value) for each in records])
    world.work()
    assert {row.user_id for row in world.intake.sessions()} == {"bob"}
    assert world.intake.dead_letters() == []


def test_a_user_who_comes_back_is_a_new_visitor(world: World) -> None:
    world.forget()
    world.intake.post(wire_event(0, "new-visit", user_id=ANN))
    world.work()
    assert [row.session_id for row in world.intake.sessions() if row.user_id == ANN] == [
        "new-visit"
    ]


def test_a_forgotten_session_takes_nothing_any_more(world: World) -> None:
    world.forget()
    answer = world.intake.post(of_ann(70), wire_event(71, "other"))
    assert answer.json()["accepted"] == 1
    assert answer.json()["rejected"][0]["code"] == "forgotten"
    assert world.traces() == []


def test_a_replay_that_is_under_way_revives_nobody(world: World) -> None:
    """The worker records, the user is forgotten, the worker is done."""
    world.intake.post(*[of_ann(n, session_id="late", event_id=f"l-{n}") for n in range(4)])
    world.intake.post(wire_event(4, "late", user_id=ANN, **END))
    world.intake.consume()
    forgotten: list[Outcome] = []

    class Desktop(DrawnDesktop):
        def step(self, action: Action) -> Step:
            if not forgotten:
                forgotten.append(world.forget())
            return super().step(action)

    with ReplayWorker(
        world.intake.engine, world.intake.settings, lambda: Desktop(64, 48)
    ) as worker:
        while worker.replay_next():
            pass
    assert forgotten
    with read(world.intake.engine) as session:
        named = set(session.scalars(select(Shard.path)))
    there = {stored.path for stored in open_store(world.intake.settings).listed()}
    assert there == named


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"\0" + data[1:]])
def test_a_damaged_shard_goes_and_what_else_it_held_is_made_anew(
    world: World, damage: Callable[[bytes], bytes]
) -> None:
    [path] = Stocked(world.intake).shard_paths(DOCUMENT)
    path.write_bytes(damage(path.read_bytes()))
    world.forget()
    assert world.traces() == []
    world.work()
    assert world.texts() == [b"hello by bob"]


def test_killed_at_any_commit_a_second_call_goes_on(world: World, settings: Settings) -> None:
    environment = os.environ | {
        "STOVETOP_DATA": str(settings.data),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    died = [
        subprocess.run(
            [sys.executable, "-c", KILLED_AT_A_COMMIT, str(number), ANN],
            env=environment,
            stderr=subprocess.PIPE,
            check=False,
        )
        for number in (1, 3, 5, 7, 9)
    ]
    assert died[0].returncode == -signal.SIGKILL, died[0].stderr.decode()
    assert [each.returncode for each in died].count(-signal.SIGKILL) >= 3
    world.forget()
    assert world.traces() == []
    assert world.texts() == [b"hello by bob"]
    assert world.findings() == []
    world.work()
    with read(world.intake.engine) as session:
        assert set(session.scalars(select(SessionRow.user_id))) == {"bob"}
    assert Stocked(world.intake).shard_paths(FRAME)
