"""A key's limits over HTTP: what passes one is refused with the fix, and not stored."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Engine, select

from ingest.database import read, write
from tests.control_api.conftest import Limited
from tests.control_api.rows import make_checkpoint, make_run
from trainer.commands import queue as command_queue
from trainer.commands.queue import Settlement
from trainer.tables import Checkpoint, Command

RATE = 0.01  # in force; `fast` was saved at a hundred times that


@pytest.fixture(autouse=True)
def run_id(engine: Engine) -> str:
    with write(engine) as session:
        run = make_run(session, lr=RATE)
        make_checkpoint(session, run, "slow", 5).lr = RATE
        make_checkpoint(session, run, "fast", 3).lr = 100 * RATE
        return run.run_id


def ask(client: TestClient, kind: str, args: dict[str, Any] | None = None) -> Response:
    return client.post("/v1/runs/online/commands", json={"kind": kind, "args": args or {}})


def num_commands(engine: Engine) -> int:
    with read(engine) as session:
        return len(session.scalars(select(Command)).all())


def course(to: float, **more: object) -> dict[str, Any]:
    return {"schedule": {"shape": "linear", "to": to, "steps": 50, **more}}


TOO_FAR: list[tuple[str, dict[str, Any], str]] = [
    ("set_lr", {"value": 0.2}, "args.value"),
    ("set_lr", {"value": 0.0005}, "args.value"),
    ("set_lr", {"value": 0.2, "group": "decay"}, "args.value"),
    ("set_lr", {"factor": 11.0}, "args.factor"),
    ("set_lr", {"factor": 0.09}, "args.factor"),
    ("set_lr", {"factor": 5e-324}, "args.factor"),
    ("set_lr", course(0.2), "args.schedule.to"),
    ("set_lr", course(0.0005), "args.schedule.to"),
    ("set_lr", course(0.01, warm_up_steps=20), "args.schedule.warm_up_steps"),
    ("rollback", {"checkpoint": "fast"}, "args.checkpoint"),
    ("rollback", {"checkpoint": "fast", "set_lr": {"factor": 0.5}}, "args.set_lr.factor"),
    ("rollback", {"checkpoint": "slow", "set_lr": {"value": 0.2}}, "args.set_lr.value"),
    ("rollback", {"checkpoint": "slow", "set_lr": {"factor": 0.05}}, "args.set_lr.factor"),
    ("rollback", {"checkpoint": "slow", "set_lr": course(0.2)}, "args.set_lr.schedule.to"),
    (
        "rollback",
        {"checkpoint": "fast", "set_lr": {"value": 0.01, "group": "decay"}},
        "args.checkpoint",
    ),
]
NEAR_ENOUGH: list[tuple[str, dict[str, Any]]] = [
    ("set_lr", {"value": 0.1}),
    ("set_lr", {"value": 0.001}),
    ("set_lr", {"factor": 10.0}),
    ("set_lr", course(0.001)),
    ("set_lr", course(0.01, warm_up_steps=10)),
    ("rollback", {"checkpoint": "slow"}),
    ("rollback", {"checkpoint": "fast", "set_lr": {"value": 0.001}}),
    ("rollback", {"checkpoint": "fast", "set_lr": {"factor": 0.01}}),
]


@pytest.mark.parametrize(("kind", "args", "field"), TOO_FAR)
def test_a_rate_too_far_from_the_one_in_force_is_refused_by_its_field(
    limited: Limited, engine: Engine, kind: str, args: dict[str, Any], field: str
) -> None:
    refused = ask(limited(max_lr_factor=10.0), kind, args)
    assert refused.status_code == 422
    problem = refused.json()
    assert [error["field"] for error in problem["errors"]] == [field]
    assert (problem["limit"], problem["allowed"]) == ("max_lr_factor", 10.0)
    assert "ask for 0.001 to 0.1" in problem["detail"]
    assert num_commands(engine) == 0


@pytest.mark.parametrize(("kind", "args"), NEAR_ENOUGH)
def test_what_is_within_the_factor_is_stored(
    limited: Limited, kind: str, args: dict[str, Any]
) -> None:
    assert ask(limited(max_lr_factor=10.0), kind, args).status_code == 201


@pytest.mark.parametrize(("kind", "args", "_field"), TOO_FAR)
def test_a_key_without_limits_may_go_as_far_as_it_likes(
    operator: TestClient, kind: str, args: dict[str, Any], _field: str
) -> None:
    assert ask(operator, kind, args).status_code == 201


def undo_of(operator: TestClient, engine: Engine, kind: str, before: dict[str, Any]) -> str:
    """The path that undoes a command of somebody else's, which the run has applied."""
    args = {"value": RATE} if kind == "set_lr" else {"checkpoint": "slow"}
    asked = ask(operator, kind, args).json()
    with write(engine) as session:
        settlement = Settlement(
            asked["command_id"], "applied", 1.0, "main", effective_step=11, before=before, after={}
        )
        command_queue.settle(session, settlement)
    return f"/v1/commands/{asked['command_id']}/undo"


@pytest.mark.parametrize("kind", ["set_lr", "rollback"])
def test_an_undo_is_judged_by_the_rate_that_it_brings_back(
    limited: Limited, operator: TestClient, engine: Engine, kind: str
) -> None:
    with read(engine) as session:
        fast = session.scalars(select(Checkpoint).where(Checkpoint.name == "fast")).one()
    before = {"lr": 100 * RATE} if kind == "set_lr" else {"checkpoint_id": fast.checkpoint_id}
    path = undo_of(operator, engine, kind, before)
    refused = limited(max_lr_factor=10.0).post(path)
    assert (refused.status_code, refused.json()["limit"]) == (422, "max_lr_factor")
    assert limited(max_lr_factor=100.0).post(path).status_code == 201


def test_a_budget_is_for_each_run_and_whatever_became_of_its_commands(
    limited: Limited, engine: Engine
) -> None:
    with write(engine) as session:
        make_run(session, "other")
    agent = limited(max_commands=2)
    first = ask(agent, "pause").json()
    assert agent.delete(f"/v1/commands/{first['command_id']}").status_code == 200
    assert ask(agent, "resume").status_code == 201
    refused = ask(agent, "stop")
    assert refused.status_code == 403
    assert (refused.json()["limit"], refused.json()["allowed"]) == ("max_commands", 2)
    assert "--max-commands" in refused.json()["detail"]
    assert num_commands(engine) == 2
    other = agent.post("/v1/runs/other/commands", json={"kind": "pause"})
    assert other.status_code == 201


def test_another_key_s_commands_are_not_counted(limited: Limited, operator: TestClient) -> None:
    for _ in range(2):
        ask(operator, "pause")
    assert ask(limited(max_commands=1), "pause").status_code == 201
    assert ask(limited(max_commands=1), "pause").status_code == 201


def test_a_request_that_comes_again_costs_nothing(limited: Limited) -> None:
    agent = limited(max_commands=1)
    body, header = {"kind": "pause"}, {"Idempotency-Key": "k"}
    answers = [
        agent.post("/v1/runs/online/commands", json=body, headers=header).status_code
        for _ in range(3)
    ]
    assert answers == [201, 200, 200]


def test_a_limited_key_cancels_its_own_commands_only(
    limited: Limited, operator: TestClient
) -> None:
    agent = limited(max_commands=5)
    own, other = ask(agent, "pause").json(), ask(operator, "pause").json()
    assert agent.delete(f"/v1/commands/{own['command_id']}").status_code == 200
    assert agent.delete(f"/v1/commands/{other['command_id']}").status_code == 403
    assert operator.delete(f"/v1/commands/{other['command_id']}").status_code == 200


@pytest.mark.parametrize(
    "limits", [{"max_lr_factor": 10.0}, {"max_commands": 5}, {"needs_approval": True}]
)
def test_a_limited_key_changes_no_slice_and_no_mix_behind_a_run_s_back(
    limited: Limited, operator: TestClient, limits: dict[str, Any]
) -> None:
    agent = limited(**limits)
    slice_, mix = {"name": "s", "filter": ""}, {"name": "m", "shares": {"s": 1.0}}
    for path, body in (("/v1/slices", slice_), ("/v1/mixes", mix)):
        refused = agent.post(path, json=body)
        assert refused.status_code == 403
        assert "a key with limits changes no slice and no mix" in refused.json()["detail"]
        assert operator.get(path).json()["items"] == []
    assert operator.post("/v1/slices", json=slice_).status_code == 201
    assert operator.post("/v1/mixes", json=mix).status_code == 201
    previewed = agent.post("/v1/mixes/preview", json={"shares": {"s": 1.0}})
    assert previewed.status_code == 200


def test_a_key_can_ask_for_its_limits_and_its_own_commands(
    limited: Limited, operator: TestClient
) -> None:
    agent = limited(max_commands=5, max_lr_factor=10.0)
    own = ask(agent, "pause").json()
    ask(operator, "pause")
    caller = agent.get("/v1/instance").json()
    assert caller["limits"] == {
        "max_lr_factor": 10.0,
        "max_commands": 5,
        "needs_approval": False,
    }
    listed = agent.get("/v1/runs/online/commands", params={"actor": caller["actor"]}).json()
    assert [command["command_id"] for command in listed["items"]] == [own["command_id"]]
