"""The commands as tools: from their own schema, and back from a tool call."""

import json
from typing import Any

import pytest

from control_api.agent.actions import Ask, Done, Wait
from control_api.agent.tools import ToolMisused, action_of, tools
from tests.control_api.bad_commands import GOOD


def by_name() -> dict[str, dict[str, Any]]:
    return {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools()}


def test_every_command_is_a_tool_and_so_are_wait_and_done() -> None:
    assert set(by_name()) == {kind for kind, _ in GOOD} | {"wait", "done"}


def test_a_tool_names_every_argument_and_needs_a_reason() -> None:
    rollback = by_name()["rollback"]
    assert {"checkpoint", "set_lr", "hold_data", "reason"} <= set(rollback["properties"])
    assert set(rollback["required"]) == {"checkpoint", "reason"}
    assert "kind" not in rollback["properties"]


def test_no_schema_refers_to_another() -> None:
    assert "$ref" not in json.dumps(tools())


@pytest.mark.parametrize(("kind", "args"), GOOD)
def test_a_call_is_the_command_that_it_names(kind: str, args: dict[str, Any]) -> None:
    action = action_of(kind, json.dumps(args | {"reason": "to see"}))
    assert action == Ask(kind, args, "to see")


def test_wait_and_done_are_the_agents_own() -> None:
    assert action_of("wait", '{"steps": 20}') == Wait(20)
    assert action_of("done", '{"summary": "it learns"}') == Done("it learns")


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("set_lr", '{"value": 0.1', "no JSON"),
        ("set_lr", "[0.1]", "one JSON object"),
        ("set_lr", '{"value": 0.1}', "reason: say"),
        ("set_lr", '{"value": 0.1, "reason": 7}', "reason: say"),
        ("explode", '{"reason": "why not"}', "there is no tool 'explode'; there are evaluate"),
        ("wait", "{}", "steps: Field required"),
        ("wait", '{"steps": 0}', "steps: "),
        ("done", '{"summary": 1}', "summary: "),
    ],
)
def test_a_call_that_is_none_says_what_to_do(name: str, arguments: str, says: str) -> None:
    with pytest.raises(ToolMisused, match=says):
        action_of(name, arguments)
