"""Limits and proposals at the terminal."""

import pytest
from sqlalchemy import Engine

from ingest.database import read, write
from ingest.keys import Limits, authenticate, create_key
from tests.control_api.rows import make_run
from tests.control_api.shell import Shell, said


@pytest.fixture
def agent(engine: Engine) -> str:
    """A run, and a key that needs approval to ask something of it."""
    with write(engine) as session:
        make_run(session)
        return create_key(session, "operator", "agent", Limits(needs_approval=True))


def test_a_key_is_made_with_limits(shell: Shell, engine: Engine) -> None:
    limits = ("--max-lr-factor", "10", "--max-commands", "20", "--needs-approval")
    made = said(
        shell("keys", "create", "--role", "operator", "--source", "agent", *limits, "--json")
    )
    assert made["limits"] == {"max_lr_factor": 10.0, "max_commands": 20, "needs_approval": True}
    with read(engine) as session:
        caller = authenticate(session, made["key"])
    assert caller is not None
    assert caller.limits == Limits(10.0, 20, True)


def test_a_limit_that_is_none_is_refused_by_name(shell: Shell) -> None:
    refused = shell("keys", "create", "--role", "operator", "--max-lr-factor", "0.5")
    assert (refused.exit_code, "max_lr_factor: 0.5 must be" in refused.stderr) == (1, True)


def test_a_proposal_says_how_it_is_approved_and_waits_for_nothing(shell: Shell, agent: str) -> None:
    proposed = shell("pause", "online", "--key", agent)
    assert proposed.exit_code == 0
    assert proposed.stdout.startswith("pause is proposed and waits for somebody else: stovetop app")


def test_a_proposal_is_approved_by_its_id(shell: Shell, agent: str) -> None:
    proposal = said(shell("pause", "online", "--key", agent, "--json"))
    approved = said(
        shell("approve", proposal["command_id"], "--reason", "yes", "--wait", "0", "--json")
    )
    assert (approved["state"], approved["decision_reason"]) == ("pending", "yes")


def test_a_proposal_is_refused_with_a_reason(shell: Shell, agent: str) -> None:
    proposal = said(shell("stop", "online", "--key", agent, "--json"))
    assert shell("refuse", proposal["command_id"]).exit_code == 2
    refused = shell("refuse", proposal["command_id"], "--reason", "it still learns")
    assert (refused.exit_code, refused.stdout) == (0, "stop is rejected\n")


def test_what_was_asked_is_listed_for_people_and_for_programs(shell: Shell, agent: str) -> None:
    shell("lr", "online", "0.1", "--reason", "it plods", "--wait", "0")
    shell("pause", "online", "--key", agent)
    listed = said(shell("commands", "online", "--json"))
    assert [command["kind"] for command in listed["items"]] == ["pause", "set_lr"]
    proposed = said(shell("commands", "online", "--state", "proposed", "--json"))
    assert [command["kind"] for command in proposed["items"]] == ["pause"]
    shown = shell("commands", "online").stdout
    assert 'set_lr {"value": 0.1}' in shown
    assert "it plods" in shown


def test_an_agent_says_how_it_ended(shell: Shell, engine: Engine, agent: str) -> None:
    with write(engine) as session:
        make_run(session, "over", state="finished", step=100)
    said_so = said(shell("agent", "over", "--key", agent, "--json"))
    assert said_so["summary"] == "the run is finished at step 100, its lr 0.0005"


def test_a_model_without_an_endpoint_is_refused_with_the_fix(shell: Shell, agent: str) -> None:
    refused = shell("agent", "online", "--key", agent, "--model", "some-model")
    assert (refused.exit_code, "STOVETOP_AGENT_URL" in refused.stderr) == (1, True)
