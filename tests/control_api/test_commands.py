"""Commands over HTTP: validated before they are stored, answered once the trainer has them."""

import time
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from control_api.commands import RECEPTION_WAIT_S
from ingest.database import read, write
from ingest.slices import save_mix, save_slice
from tests.control_api.rows import make_checkpoint, make_run
from trainer.commands import queue as command_queue
from trainer.commands.inbox import Inbox
from trainer.tables import Command


@pytest.fixture
def run_id(engine: Engine) -> str:
    """A run, a mix and a checkpoint that commands may name."""
    with write(engine) as session:
        save_slice(session, "all", "", actor="test", now=0.0)
        save_mix(session, "half", {"all": 1.0}, actor="test", now=0.0)
        run = make_run(session)
        make_checkpoint(session, run, "before", 5)
        return run.run_id


def ask(client: TestClient, kind: str, args: dict[str, Any], run: str = "online") -> httpx.Response:
    return client.post(f"/v1/runs/{run}/commands", json={"kind": kind, "args": args})


def test_a_command_is_answered_received_once_the_trainer_has_it(
    operator: TestClient, engine: Engine, run_id: str
) -> None:
    with Inbox(engine, run_id, after=0) as inbox:
        # The answer waits 200 ms for the trainer, which a busy machine may miss, but not ten times.
        for _ in range(10):
            answer = ask(operator, "set_lr", {"value": 2e-4})
            assert answer.status_code == 201
            if answer.json()["state"] == "received":
                break
        assert answer.json()["state"] == "received"
        assert answer.json()["command_id"] in {received.command_id for received in inbox.take()}


def test_without_a_trainer_the_answer_is_pending_and_in_time(
    operator: TestClient, run_id: str
) -> None:
    started = time.monotonic()
    answer = ask(operator, "pause", {}, run_id)
    assert answer.json()["state"] == "pending"
    assert RECEPTION_WAIT_S <= time.monotonic() - started < RECEPTION_WAIT_S + 2.0


def test_the_answer_tells_who_why_and_what(operator: TestClient, run_id: str) -> None:
    body = {
        "kind": "save",
        "args": {"name": "mine", "note": "n", "keep": True},
        "reason": "before I try something",
    }
    answer = operator.post(f"/v1/runs/{run_id}/commands", json=body).json()
    assert answer["actor"].startswith("source-of-operator/")
    assert (answer["reason"], answer["args"]) == (body["reason"], body["args"])
    assert operator.get(f"/v1/commands/{answer['command_id']}").json() == answer


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (("set_lr", {"value": "fast"}), "args.value"),
        (("set_lr", {"value": -1}), "args.value"),
        (("set_lr", {}), "args"),
        (("set_lr", {"value": 1e-4, "faktor": 2}), "args.faktor"),
        (("set_mix", {}), "args"),
        (("set_mix", {"name": "nobody"}), "args.name"),
        (("rollback", {"checkpoint": "gone"}), "args.checkpoint"),
        (("rollback", {"checkpoint": "before", "set_lr": {"value": 0}}), "args.set_lr.value"),
        (("rollback", {"checkpoint": "before", "set_mix": {"name": "x"}}), "args.set_mix.name"),
        (("save", {"name": "before"}), "args.name"),
        (("explode", {}), "kind"),
        (("pause", {"kind": "stop"}), "args.kind"),
    ],
)
def test_a_wrong_command_is_refused_by_field_and_not_stored(
    operator: TestClient,
    engine: Engine,
    run_id: str,
    command: tuple[str, dict[str, Any]],
    field: str,
) -> None:
    answer = ask(operator, *command)
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]
    with read(engine) as session:
        assert session.scalars(select(Command).where(Command.run_id == run_id)).all() == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"args": {}}',
        b'{"kind": "pause", "args": []}',
        b'{"kind": "set_lr", "args": {"value": NaN}}',
        b'{"kind": "pause", "extra": 1}',
    ],
)
def test_an_unreadable_body_is_the_callers_fault(
    operator: TestClient, run_id: str, body: bytes
) -> None:
    assert_refused(operator, run_id, body, 422)


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "pause", "reason": "\\ud800"}',
        b'{"kind": "set_lr", "args": {"\\ud800": 1}}',
        b'{"kind": "\\ud800"}',
    ],
)
def test_half_a_character_does_not_pass_the_border(
    operator: TestClient, run_id: str, body: bytes
) -> None:
    assert_refused(operator, run_id, body, 400)


def assert_refused(operator: TestClient, run_id: str, body: bytes, status: int) -> None:
    answer = operator.post(
        f"/v1/runs/{run_id}/commands", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_an_unknown_run_is_not_found(operator: TestClient) -> None:
    assert ask(operator, "pause", {}, run="nobody").status_code == 404
    assert operator.get("/v1/commands/nobody").status_code == 404


@pytest.mark.parametrize("state", command_queue.ENDED_RUN_STATES)
def test_an_ended_run_takes_no_commands(operator: TestClient, engine: Engine, state: str) -> None:
    with write(engine) as session:
        make_run(session, state=state)
    answer = ask(operator, "pause", {})
    assert answer.status_code == 409
    assert state in answer.json()["detail"]


def test_a_runs_commands_are_listed_newest_first(
    operator: TestClient, viewer: TestClient, run_id: str
) -> None:
    for factor in (2.0, 3.0):
        ask(operator, "set_lr", {"factor": factor}, run_id)
    ask(operator, "pause", {}, run_id)
    listed = viewer.get("/v1/runs/online/commands").json()
    assert [item["number"] for item in listed["items"]] == [3, 2, 1]
    one = viewer.get("/v1/runs/online/commands", params={"state": "applied"}).json()
    assert one["total"] == 0
