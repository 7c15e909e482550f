"""Commands as rows: their order, their one life, and what is refused before it is stored."""

import json
import threading

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ingest.database import read, write
from ingest.slices import get_mix, shares_of
from tests.trainer.runs import NOW, ask, make_mix, make_run
from trainer.commands import queue as command_queue
from trainer.commands.kinds import parse
from trainer.commands.queue import (
    CommandRefused,
    NotCancellable,
    RunEnded,
    Settlement,
    UnknownRun,
)
from trainer.tables import Branch, Checkpoint, Command


@pytest.fixture(autouse=True)
def run(engine: Engine) -> None:
    with write(engine) as session:
        make_run(session)


def add_checkpoint(engine: Engine, name: str) -> None:
    with write(engine) as session:
        add_checkpoint_in(session, name)


def add_checkpoint_in(session: Session, name: str) -> None:
    session.add(
        Checkpoint(
            checkpoint_id=f"id-{name}",
            run_id="run",
            branch="main",
            step=1,
            lr=5e-4,
            name=name,
            note="",
            path="p",
            digest="d",
            num_bytes=1,
            is_kept=False,
            created_at=NOW,
        )
    )
    session.flush()


def test_a_checkpoint_that_was_removed_is_not_there_any_more(engine: Engine) -> None:
    add_checkpoint(engine, "old")
    with write(engine) as session:
        session.get_one(Checkpoint, "id-old").removed_at = NOW
    with pytest.raises(CommandRefused, match="no checkpoint 'old'"), write(engine) as session:
        ask(session, "rollback", checkpoint="old")


def test_a_command_starts_as_pending_with_the_next_number(engine: Engine) -> None:
    with write(engine) as session:
        first, second = ask(session, "pause"), ask(session, "resume")
    assert [(c.number, c.state) for c in (first, second)] == [(1, "pending"), (2, "pending")]


def test_numbers_are_in_commit_order_under_many_writers(engine: Engine) -> None:
    def submit_ten() -> None:
        for _ in range(10):
            with write(engine) as session:
                ask(session, "pause")

    threads = [threading.Thread(target=submit_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with read(engine) as session:
        rows = command_queue.unsettled(session, "run", after=0)
    assert [row.number for row in rows] == list(range(1, 41))


def test_an_unknown_run_is_refused(engine: Engine) -> None:
    with pytest.raises(UnknownRun), write(engine) as session:
        ask(session, "pause", run_id="nobody")


@pytest.mark.parametrize("state", ["finished", "failed", "stopped"])
def test_a_run_that_has_ended_takes_no_commands(engine: Engine, state: str) -> None:
    with write(engine) as session:
        make_run(session, "over", state=state)
    with pytest.raises(RunEnded, match=state), write(engine) as session:
        ask(session, "pause", run_id="over")


def test_a_lost_run_takes_commands_for_whoever_restarts_it(engine: Engine) -> None:
    with write(engine) as session:
        make_run(session, "gone", state="lost")
        assert ask(session, "pause", run_id="gone").state == "pending"


@pytest.mark.parametrize(
    ("kind", "arguments", "field"),
    [
        ("set_mix", {"name": "nothing"}, "name"),
        ("rollback", {"checkpoint": "nothing"}, "checkpoint"),
        ("rollback", {"checkpoint": "good", "branch": "main"}, "branch"),
        ("rollback", {"checkpoint": "good", "set_mix": {"name": "nothing"}}, "set_mix.name"),
        ("save", {"name": "good"}, "name"),
    ],
)
def test_what_a_command_names_must_be_there(
    engine: Engine, kind: str, arguments: dict[str, object], field: str
) -> None:
    add_checkpoint(engine, "good")
    with pytest.raises(CommandRefused) as refusal, write(engine) as session:
        ask(session, kind, **arguments)
    assert refusal.value.field == field


def test_a_refused_command_leaves_no_row_and_no_gap(engine: Engine) -> None:
    with pytest.raises(CommandRefused), write(engine) as session:
        ask(session, "set_mix", name="nothing")
    with write(engine) as session:
        assert ask(session, "pause").number == 1


def test_a_rollback_may_name_a_checkpoint_that_is_about_to_be_saved(engine: Engine) -> None:
    with write(engine) as session:
        ask(session, "save", name="soon")
        assert ask(session, "rollback", checkpoint="soon").number == 2


def test_a_named_mix_version_must_exist(engine: Engine) -> None:
    with write(engine) as session:
        make_mix(session, old=1.0)
    with pytest.raises(CommandRefused), write(engine) as session:
        ask(session, "set_mix", name="mix", version=7)


def test_only_a_pending_command_becomes_received(engine: Engine) -> None:
    with write(engine) as session:
        first, second = ask(session, "pause"), ask(session, "resume")
        command_queue.settle(session, Settlement(first.command_id, "applied", NOW, "main", 1))
        command_queue.mark_received(session, [first.command_id, second.command_id], NOW)
    with read(engine) as session:
        states = [session.get_one(Command, c.command_id).state for c in (first, second)]
    assert states == ["applied", "received"]


def test_a_settled_command_stays_as_it_is(engine: Engine) -> None:
    with write(engine) as session:
        row = ask(session, "set_lr", value=0.1)
        applied = Settlement(
            row.command_id, "applied", NOW, "main", 5, before={"lr": 1.0}, after={"lr": 0.1}
        )
        command_queue.settle(session, applied)
        command_queue.settle(session, Settlement(row.command_id, "failed", NOW, "main", error="x"))
        command_queue.expire_unsettled(session, "run", NOW)
    with read(engine) as session:
        stored = session.get_one(Command, row.command_id)
    assert (stored.state, stored.effective_step, stored.error) == ("applied", 5, None)


def test_what_is_unsettled_expires_with_the_run(engine: Engine) -> None:
    with write(engine) as session:
        row = ask(session, "pause")
        assert command_queue.expire_unsettled(session, "run", NOW) == 1
    with read(engine) as session:
        assert session.get_one(Command, row.command_id).state == "expired"


def test_a_pending_command_is_cancelled_and_stays_so(engine: Engine) -> None:
    with write(engine) as session:
        row = ask(session, "pause")
        assert command_queue.cancel(session, row.command_id, actor="me").state == "cancelled"
        assert command_queue.cancel(session, row.command_id, actor="you").error == "cancelled by me"
        command_queue.mark_received(session, [row.command_id], NOW)
        command_queue.settle(session, Settlement(row.command_id, "applied", NOW, "main", 1))
        assert session.get_one(Command, row.command_id, populate_existing=True).state == "cancelled"


def test_only_what_is_still_its_own_is_received(engine: Engine) -> None:
    with write(engine) as session:
        gone, kept = ask(session, "pause"), ask(session, "resume")
        command_queue.cancel(session, gone.command_id, actor="test")
        ids = [gone.command_id, kept.command_id]
        assert command_queue.mark_received(session, ids, NOW) == {kept.command_id}


def test_a_received_command_can_not_be_cancelled(engine: Engine) -> None:
    with write(engine) as session:
        row = ask(session, "pause")
        command_queue.mark_received(session, [row.command_id], NOW)
        with pytest.raises(NotCancellable, match="received"):
            command_queue.cancel(session, row.command_id, actor="test")


def test_weights_become_versions_of_a_mix_of_the_run_s_own(engine: Engine) -> None:
    with write(engine) as session:
        make_mix(session, old=1.0, fresh=1.0)
        first = ask(session, "set_mix", weights={"old": 1.0, "fresh": 3.0})
        change = {"weights": {"old": 1.0}}
        add_checkpoint_in(session, "good")
        second = ask(session, "rollback", checkpoint="good", set_mix=change)
        assert json.loads(first.args_json) == {"name": "inline-run", "version": 1}
        assert json.loads(second.args_json)["set_mix"] == {"name": "inline-run", "version": 2}
        assert shares_of(get_mix(session, "inline-run", 1)) == {"old": 0.25, "fresh": 0.75}


@pytest.mark.parametrize(
    ("weights", "field"), [({"nobody": 1.0}, "weights.nobody"), ({"old": 0.0}, "weights")]
)
def test_weights_that_make_no_mix_are_refused(
    engine: Engine, weights: dict[str, float], field: str
) -> None:
    with write(engine) as session:
        make_mix(session, old=1.0)
        with pytest.raises(CommandRefused) as refusal:
            ask(session, "set_mix", weights=weights)
        assert refusal.value.field == field


def test_two_branches_are_not_confused(engine: Engine) -> None:
    add_checkpoint(engine, "good")
    with write(engine) as session:
        session.add(Branch(run_id="run", name="b", from_step=1, from_adoption=0, created_at=NOW))
    with write(engine) as session:
        command = parse("rollback", {"checkpoint": "good", "branch": "c"})
        assert command_queue.submit(session, "run", command, actor="test").kind == "rollback"
