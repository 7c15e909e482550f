"""Proposals over HTTP: nobody takes them until somebody else has approved them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Engine, update

from ingest.database import read, write
from tests.control_api.conftest import AsRole, Limited
from tests.control_api.rows import make_checkpoint, make_run
from trainer.commands import queue as command_queue
from trainer.commands.inbox import Inbox
from trainer.tables import Run


@pytest.fixture(autouse=True)
def run_id(engine: Engine) -> str:
    with write(engine) as session:
        run = make_run(session, lr=0.01)
        make_checkpoint(session, run, "before", 5)
        return run.run_id


@pytest.fixture
def agent(limited: Limited) -> TestClient:
    return limited(needs_approval=True, max_lr_factor=10.0)


def ask(client: TestClient, kind: str, **args: object) -> dict[str, Any]:
    answer = client.post("/v1/runs/online/commands", json={"kind": kind, "args": args})
    assert answer.status_code == 201, answer.text
    command: dict[str, Any] = answer.json()
    return command


def decide(client: TestClient, command: dict[str, Any], verb: str, reason: str = "why") -> Response:
    return client.post(f"/v1/commands/{command['command_id']}/{verb}", json={"reason": reason})


def test_a_proposal_is_no_command_yet(agent: TestClient, engine: Engine, run_id: str) -> None:
    proposal = ask(agent, "set_lr", factor=0.1)
    assert proposal["state"] == "proposed"
    with read(engine) as session:
        assert list(command_queue.unsettled(session, run_id, after=0)) == []


def test_an_approved_one_takes_its_place_after_all_so_far(
    agent: TestClient, operator: TestClient, engine: Engine, run_id: str
) -> None:
    """The run has taken later ones meanwhile, and looks for larger numbers only."""
    proposal = ask(agent, "pause")
    with Inbox(engine, run_id, after=0) as inbox:
        first = ask(operator, "resume")
        taken = []
        while not taken:
            inbox.wait(0.1)
            taken = inbox.take()
        assert [received.command_id for received in taken] == [first["command_id"]]
        approved = decide(operator, proposal, "approve").json()
        taken = []
        while not taken:
            inbox.wait(0.1)
            taken = inbox.take()
    assert [received.command_id for received in taken] == [proposal["command_id"]]
    assert approved["number"] > first["number"] > proposal["number"]


def test_an_approval_tells_who_and_why(agent: TestClient, operator: TestClient) -> None:
    approved = decide(operator, ask(agent, "pause"), "approve", "looks right").json()
    assert approved["state"] == "pending"
    assert approved["actor"].startswith("agent/")
    assert approved["decided_by"].startswith("source-of-operator/")
    assert approved["decision_reason"] == "looks right"
    assert approved["decided_at"] > 0


def test_an_approval_needs_no_body(agent: TestClient, operator: TestClient) -> None:
    proposal = ask(agent, "pause")
    approved = operator.post(f"/v1/commands/{proposal['command_id']}/approve")
    assert (approved.status_code, approved.json()["state"]) == (200, "pending")


def test_a_refused_one_is_rejected_with_the_reason(agent: TestClient, operator: TestClient) -> None:
    proposal = ask(agent, "stop")
    refused = decide(operator, proposal, "refuse", "it still learns").json()
    assert refused["state"] == "rejected"
    assert refused["error"].endswith(": it still learns")
    assert refused["error"].startswith("refused by source-of-operator/")
    assert refused["settled_at"] is not None
    assert decide(operator, proposal, "approve").status_code == 409


def test_a_refusal_needs_a_reason(agent: TestClient, operator: TestClient) -> None:
    proposal = ask(agent, "pause")
    assert operator.post(f"/v1/commands/{proposal['command_id']}/refuse").status_code == 422
    assert decide(operator, proposal, "refuse", "").status_code == 422


@pytest.mark.parametrize("verb", ["approve", "refuse"])
def test_neither_who_proposed_nor_another_limited_key_decides(
    agent: TestClient, limited: Limited, as_role: AsRole, verb: str
) -> None:
    proposal = ask(agent, "pause")
    for client in (agent, limited(max_commands=9), as_role("viewer")):
        assert decide(client, proposal, verb).status_code == 403
    assert decide(as_role("admin"), proposal, verb).status_code == 200


@pytest.mark.parametrize("verb", ["approve", "refuse"])
def test_only_a_proposal_is_decided_on_and_only_once(
    agent: TestClient, operator: TestClient, verb: str
) -> None:
    assert decide(operator, ask(operator, "pause"), verb).status_code == 409
    proposal = ask(agent, "pause")
    assert decide(operator, proposal, "approve").status_code == 200
    again = decide(operator, proposal, verb)
    assert again.status_code == 409
    assert "the command is pending" in again.json()["detail"]
    assert decide(operator, {"command_id": "nobody"}, verb).status_code == 404


def test_who_proposed_may_take_it_back(agent: TestClient, operator: TestClient) -> None:
    proposal = ask(agent, "pause")
    cancelled = agent.delete(f"/v1/commands/{proposal['command_id']}").json()
    assert cancelled["state"] == "cancelled"
    assert decide(operator, proposal, "approve").status_code == 409


def test_a_proposal_expires_when_the_run_ends(
    agent: TestClient, operator: TestClient, engine: Engine, run_id: str
) -> None:
    proposal = ask(agent, "pause")
    with write(engine) as session:
        session.execute(update(Run).values(state="finished"))
        assert command_queue.expire_unsettled(session, run_id, 1.0) == 1
    assert agent.get(f"/v1/commands/{proposal['command_id']}").json()["state"] == "expired"
    assert decide(operator, proposal, "approve").status_code == 409


def test_what_the_run_has_put_out_of_reach_is_not_approved_and_stays_proposed(
    agent: TestClient, operator: TestClient, engine: Engine
) -> None:
    proposal = ask(agent, "set_lr", value=0.1)
    with write(engine) as session:
        session.execute(update(Run).values(lr=0.001))
    refused = decide(operator, proposal, "approve")
    assert (refused.status_code, refused.json()["limit"]) == (422, "max_lr_factor")
    assert agent.get(f"/v1/commands/{proposal['command_id']}").json()["state"] == "proposed"


def test_a_name_that_was_taken_meanwhile_is_not_approved(
    agent: TestClient, operator: TestClient, engine: Engine, run_id: str
) -> None:
    proposal = ask(agent, "save", name="mine")
    with write(engine) as session:
        make_checkpoint(session, session.get_one(Run, run_id), "mine", 6)
    refused = decide(operator, proposal, "approve")
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["args.name"]


def test_proposals_are_listed_by_their_state(agent: TestClient, operator: TestClient) -> None:
    ask(operator, "pause")
    proposal = ask(agent, "pause")
    listed = operator.get("/v1/runs/online/commands", params={"state": "proposed"}).json()
    assert [command["command_id"] for command in listed["items"]] == [proposal["command_id"]]
