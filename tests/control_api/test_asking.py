"""Commands that come twice, are taken back, or are undone, over HTTP."""

from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, update

from ingest.database import read, write
from ingest.slices import save_slice
from tests.control_api.conftest import AsRole
from tests.control_api.rows import make_checkpoint, make_run
from trainer.commands import queue as command_queue
from trainer.commands.inbox import Inbox
from trainer.commands.queue import Settlement
from trainer.tables import Command, Run

PAUSE = {"kind": "pause", "args": {}, "reason": "lunch"}


@pytest.fixture
def run_id(engine: Engine) -> str:
    with write(engine) as session:
        save_slice(session, "all", "", actor="test", now=0.0)
        run = make_run(session)
        make_checkpoint(session, run, "before", 5)
        return run.run_id


def ask(client: TestClient, kind: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = client.post("/v1/runs/online/commands", json={"kind": kind, "args": args or {}})
    assert answer.status_code == 201
    command: dict[str, Any] = answer.json()
    return command


def settle(engine: Engine, command: dict[str, Any], **how: Any) -> None:
    """What the trainer would write."""
    usual = {"state": "applied", "at": 1.0, "branch": "main", "effective_step": 11}
    with write(engine) as session:
        command_queue.settle(session, Settlement(command["command_id"], **(usual | how)))


def num_commands(engine: Engine) -> int:
    with read(engine) as session:
        return len(session.scalars(select(Command)).all())


def with_key(
    client: TestClient, key: str, body: dict[str, Any], path: str = "/v1/runs/online/commands"
) -> httpx.Response:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


@pytest.mark.usefixtures("run_id")
def test_the_same_key_and_body_are_the_same_command(operator: TestClient, engine: Engine) -> None:
    first = with_key(operator, "k-1", PAUSE)
    again = with_key(operator, "k-1", PAUSE)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert with_key(operator, "k-2", PAUSE).status_code == 201
    assert num_commands(engine) == 2


@pytest.mark.usefixtures("run_id")
@pytest.mark.parametrize(
    "other", [{"kind": "resume"}, {"reason": "tea"}, {"kind": "save", "args": {"name": "x"}}]
)
def test_the_same_key_with_another_body_is_a_conflict(
    operator: TestClient, engine: Engine, other: dict[str, Any]
) -> None:
    with_key(operator, "k-1", PAUSE)
    conflict = with_key(operator, "k-1", PAUSE | other)
    assert conflict.status_code == 409
    assert "pause #1" in conflict.json()["detail"]
    assert num_commands(engine) == 1


@pytest.mark.usefixtures("run_id")
def test_another_caller_s_key_is_another_key(operator: TestClient, as_role: AsRole) -> None:
    first, other = with_key(operator, "k-1", PAUSE), with_key(as_role("admin"), "k-1", PAUSE)
    assert other.status_code == 201
    assert first.json()["command_id"] != other.json()["command_id"]


def test_a_key_finds_its_command_even_once_the_run_has_ended(
    operator: TestClient, engine: Engine, run_id: str
) -> None:
    first = with_key(operator, "k-1", PAUSE).json()
    with write(engine) as session:
        session.execute(update(Run).values(state="finished"))
        command_queue.expire_unsettled(session, run_id, 1.0)
    again = with_key(operator, "k-1", PAUSE)
    assert (again.status_code, again.json()["state"]) == (200, "expired")
    assert again.json()["command_id"] == first["command_id"]


@pytest.mark.usefixtures("run_id")
@pytest.mark.parametrize("key", ["", "two words", "k" * 201])
def test_a_key_that_is_none_is_refused(operator: TestClient, key: str) -> None:
    assert with_key(operator, key, PAUSE).status_code == 422


@pytest.mark.usefixtures("run_id")
def test_weights_asked_for_twice_make_one_version(operator: TestClient) -> None:
    body = {"kind": "set_mix", "args": {"weights": {"all": 2.0}}}
    first, again = with_key(operator, "k-1", body), with_key(operator, "k-1", body)
    assert again.json() == first.json()
    assert again.json()["args"]["version"] == 1
    listed = operator.get("/v1/mixes", params={"name": first.json()["args"]["name"]}).json()
    assert [mix["shares"] for mix in listed["items"]] == [{"all": 1.0}]


@pytest.mark.usefixtures("run_id")
@pytest.mark.parametrize(
    ("weights", "field"),
    [
        ({"nobody": 1.0}, "args.weights.nobody"),
        ({"all": -1.0}, "args.weights.all"),
        ({}, "args.weights"),
    ],
)
def test_wrong_weights_are_refused_by_slice(
    operator: TestClient, weights: dict[str, float], field: str
) -> None:
    body = {"kind": "set_mix", "args": {"weights": weights}}
    refused = operator.post("/v1/runs/online/commands", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert operator.get("/v1/mixes").json()["total"] == 0


@pytest.mark.usefixtures("run_id")
@pytest.mark.parametrize("verb", ["DELETE", "POST"])
def test_a_pending_command_is_cancelled(operator: TestClient, verb: str) -> None:
    command_id = ask(operator, "pause")["command_id"]
    path = f"/v1/commands/{command_id}" + ("/cancel" if verb == "POST" else "")
    for _ in range(2):
        cancelled = operator.request(verb, path)
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert "cancelled by source-of-operator/" in cancelled.json()["error"]


def test_a_command_that_the_run_has_is_not_cancelled(
    operator: TestClient, engine: Engine, run_id: str
) -> None:
    command_id = ask(operator, "pause")["command_id"]
    with Inbox(engine, run_id, after=0) as inbox:
        while not inbox.take():
            inbox.wait(0.1)
        refused = operator.delete(f"/v1/commands/{command_id}")
    assert refused.status_code == 409
    assert "the command is received" in refused.json()["detail"]


@pytest.mark.usefixtures("run_id")
def test_only_who_may_ask_may_cancel_or_undo(viewer: TestClient, operator: TestClient) -> None:
    command_id = ask(operator, "pause")["command_id"]
    assert viewer.delete(f"/v1/commands/{command_id}").status_code == 403
    assert viewer.post(f"/v1/commands/{command_id}/undo").status_code == 403
    for path in ("cancel", "undo"):
        assert operator.post(f"/v1/commands/nobody/{path}").status_code == 404


@pytest.mark.usefixtures("run_id")
def test_an_undo_is_a_command_whose_reason_says_what_it_undoes(
    operator: TestClient, engine: Engine
) -> None:
    lr = ask(operator, "set_lr", {"value": 0.1})
    settle(engine, lr, before={"lr": 0.2}, after={"lr": 0.1})
    path = f"/v1/commands/{lr['command_id']}/undo"
    undo = with_key(operator, "k", {"reason": "too low"}, path)
    assert undo.status_code == 201
    assert undo.json()["reason"] == "undoes set_lr #1: too low"
    assert (undo.json()["kind"], undo.json()["state"]) == ("undo", "pending")
    assert undo.json()["args"] == {"command": lr["command_id"]}
    assert with_key(operator, "k", {"reason": "too low"}, path).json() == undo.json()


@pytest.mark.usefixtures("run_id")
def test_an_undo_needs_no_body(operator: TestClient, engine: Engine) -> None:
    lr = ask(operator, "set_lr", {"value": 0.1})
    settle(engine, lr, before={"lr": 0.2}, after={"lr": 0.1})
    undo = operator.post(f"/v1/commands/{lr['command_id']}/undo")
    assert (undo.status_code, undo.json()["reason"]) == (201, "undoes set_lr #1")


@pytest.mark.usefixtures("run_id")
def test_only_the_latest_of_its_kind_is_undone(operator: TestClient, engine: Engine) -> None:
    first, second = (ask(operator, "set_lr", {"value": value}) for value in (0.1, 0.3))
    between = ask(operator, "freeze", {"modules": ["layers"]})
    for command in (first, second, between):
        settle(engine, command, before={}, after={})
    refused = operator.post(f"/v1/commands/{first['command_id']}/undo")
    assert refused.status_code == 409
    assert "set_lr #2 came after it" in refused.json()["detail"]
    assert operator.post(f"/v1/commands/{second['command_id']}/undo").status_code == 201
    refused = operator.post(f"/v1/commands/{second['command_id']}/undo")
    assert "undo #4 is on its way" in refused.json()["detail"]


@pytest.mark.parametrize("state", ["pending", "rejected", "cancelled"])
@pytest.mark.usefixtures("run_id")
def test_what_was_not_applied_is_not_undone(
    operator: TestClient, engine: Engine, state: str
) -> None:
    command = ask(operator, "pause")
    if state == "cancelled":
        operator.delete(f"/v1/commands/{command['command_id']}")
    if state == "rejected":
        settle(engine, command, state="rejected", error="no")
    refused = operator.post(f"/v1/commands/{command['command_id']}/undo")
    assert refused.status_code == 409
    assert state in refused.json()["detail"]
