"""Reception: each command once, in order, and always at the boundary after it was `received`."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine, update

from ingest.database import read, write
from tests.databases import Database, SqliteDatabase
from tests.trainer.runs import ask, make_mix, make_run
from tests.waiting import wait_until
from trainer.commands import queue as command_queue
from trainer.commands.inbox import Inbox, Received
from trainer.tables import Command

DEADLINE_S = 5.0


@pytest.fixture(autouse=True)
def run(engine: Engine) -> None:
    with write(engine) as session:
        make_run(session)


@pytest.fixture
def inbox(engine: Engine) -> Iterator[Inbox]:
    with Inbox(engine, "run", after=0) as inbox:
        yield inbox


def submit(engine: Engine, kind: str, **arguments: object) -> str:
    with write(engine) as session:
        return ask(session, kind, **arguments).command_id


def state(engine: Engine, command_id: str) -> str:
    with read(engine) as session:
        return session.get_one(Command, command_id).state


def wait_until_received(engine: Engine, command_id: str) -> None:
    wait_until(lambda: state(engine, command_id) != "pending", DEADLINE_S)


def kinds(received: list[Received]) -> list[str | None]:
    return [item.command and item.command.kind for item in received]


def test_a_boundary_sees_what_was_committed_just_before_it(engine: Engine, inbox: Inbox) -> None:
    for _ in range(50):
        command_id = submit(engine, "pause")
        assert [item.command_id for item in inbox.take()] == [command_id]


def test_each_command_is_taken_once_and_in_order(engine: Engine, inbox: Inbox) -> None:
    submitted = [submit(engine, "pause") for _ in range(100)]
    taken: list[Received] = []
    while len(taken) < 100:
        taken += inbox.take()
    assert [item.command_id for item in taken] == submitted
    assert inbox.take() == []


def test_the_listener_writes_received_by_itself(engine: Engine, inbox: Inbox) -> None:
    command_id = submit(engine, "pause")
    wait_until_received(engine, command_id)
    assert kinds(inbox.take()) == ["pause"]


def test_a_received_command_is_taken_though_the_database_went_away(
    engine: Engine, database: Database, inbox: Inbox
) -> None:
    command_id = submit(engine, "set_lr", value=0.5)
    wait_until_received(engine, command_id)
    engine.dispose()
    with database.away():
        started = time.monotonic()
        assert kinds(inbox.take()) == ["set_lr"]
        assert inbox.take() == []
        assert time.monotonic() - started < 0.5


def test_after_an_outage_commands_are_received_again(
    engine: Engine, database: Database, inbox: Inbox
) -> None:
    engine.dispose()
    with database.away():
        inbox.take()
    command_id = submit(engine, "pause")
    wait_until_received(engine, command_id)
    assert kinds(inbox.take()) == ["pause"]


def test_a_boundary_does_not_wait_for_a_locked_database(database: Database, inbox: Inbox) -> None:
    with database.locked():
        started = time.monotonic()
        inbox.take()
        assert time.monotonic() - started < 0.5


def test_a_command_that_comes_while_the_database_is_locked_is_taken_later(
    engine: Engine, database: Database
) -> None:
    """It is pending until then, and no boundary waits for it."""
    command_id = submit(engine, "pause")
    with ExitStack() as opened:
        with database.locked():
            inbox = opened.enter_context(Inbox(engine, "run", after=0))
            slowest = max(_timed(inbox) for _ in range(20))
            assert state(engine, command_id) == "pending"
        wait_until_received(engine, command_id)
        assert kinds(inbox.take()) == ["pause"]
    assert slowest < 0.5


def test_what_was_cancelled_is_never_taken(engine: Engine) -> None:
    with write(engine) as session:
        gone, kept = ask(session, "pause").command_id, ask(session, "resume").command_id
        command_queue.cancel(session, gone, actor="test")
    with Inbox(engine, "run", after=0) as inbox:
        wait_until_received(engine, kept)
        assert [item.command_id for item in inbox.take()] == [kept]


def test_a_command_is_cancelled_or_taken_but_never_both(engine: Engine, inbox: Inbox) -> None:
    """Cancelled at every moment between being asked for and being received."""
    cancelled: set[str] = set()
    taken: list[str] = []
    for attempt in range(60):
        command_id = submit(engine, "pause")
        time.sleep(attempt % 12 / 1000)
        try:
            with write(engine) as session:
                command_queue.cancel(session, command_id, actor="test")
            cancelled.add(command_id)
        except command_queue.NotCancellable:
            wait_until_received(engine, command_id)
        taken += [item.command_id for item in inbox.take()]
        assert (command_id in taken) != (command_id in cancelled)


def test_what_a_dead_trainer_had_received_is_taken_again(engine: Engine) -> None:
    command_id = submit(engine, "pause")
    with Inbox(engine, "run", after=0):
        wait_until_received(engine, command_id)
    with Inbox(engine, "run", after=0) as successor:
        assert [item.command_id for item in successor.take()] == [command_id]


def test_a_mix_arrives_with_its_shares(engine: Engine, inbox: Inbox) -> None:
    with write(engine) as session:
        make_mix(session, old=0.25, fresh=0.75)
    submit(engine, "set_mix", name="mix")
    [received] = inbox.take()
    assert received.mix is not None
    assert (received.mix.version, received.mix.shares) == (1, {"old": 0.25, "fresh": 0.75})


@pytest.mark.parametrize("arguments", [{"value": -1}, {"value": "x"}, {}, {"speed": 1}])
def test_a_stored_command_that_makes_no_sense_is_refused_and_not_fatal(
    engine: Engine, inbox: Inbox, arguments: dict[str, object]
) -> None:
    with write(engine) as session:
        row = ask(session, "set_lr", value=0.1)
        session.execute(update(Command).values(args_json=json.dumps(arguments)))
    [received] = inbox.take()
    assert received.command_id == row.command_id
    assert received.command is None
    assert received.refusal is not None


def test_a_look_costs_microseconds_when_nothing_is_new(
    engine: Engine, database: Database, inbox: Inbox
) -> None:
    """On SQLite no question is asked; on PostgreSQL one, of 50 us, is."""
    submit(engine, "pause")
    inbox.take()
    fastest = min(_timed(inbox) for _ in range(200))
    assert fastest < (100e-6 if isinstance(database, SqliteDatabase) else 500e-6)


def _timed(inbox: Inbox) -> float:
    started = time.perf_counter()
    inbox.take()
    return time.perf_counter() - started
