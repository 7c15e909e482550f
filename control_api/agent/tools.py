"""The commands of a run as tools of a language model, made from their own schema.

In: the closed union of commands (`trainer.commands.kinds`). Out: one tool a kind in the form that
OpenAI's chat completions have, its parameters the command's JSON schema with a `reason` that must
be given; and two tools of the agent's own, `wait` and `done`. A tool call becomes an `Action`, or
ToolMisused with what to do about it. Whether a command can be taken is the server's to say: its own
words go back to the model. Decision: references in the schema are written out, for endpoints differ
in whether they follow them.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from control_api.agent.actions import Action, Ask, Done, Wait
from trainer.commands.kinds import AnyCommand

Json = dict[str, Any]

MOST_STEPS = 100_000


class ToolMisused(ValueError):
    """A tool call that is none: what is wrong, and the fix."""


class WaitCall(BaseModel):
    """Let the run take some steps, then look at it again."""

    model_config = ConfigDict(extra="forbid")

    steps: int = Field(ge=1, le=MOST_STEPS)


class DoneCall(BaseModel):
    """Nothing more is to be done: the goal is reached, or can't be."""

    model_config = ConfigDict(extra="forbid")

    summary: str = Field(max_length=2_000)


LONGEST_REASON = 500
REASON = {
    "type": "string",
    "maxLength": LONGEST_REASON,
    "description": "why; kept with the command",
}


def tools() -> list[Json]:
    """All tools."""
    return [*_command_tools(), _tool("wait", WaitCall), _tool("done", DoneCall)]


def action_of(name: str, arguments: str) -> Action:
    """What a tool call asks for. Raises ToolMisused."""
    try:
        given = json.loads(arguments or "{}")
    except json.JSONDecodeError as error:
        raise ToolMisused(f"the arguments of {name} are no JSON: {error}") from error
    if not isinstance(given, dict):
        raise ToolMisused(f"the arguments of {name} must be one JSON object")
    try:
        match name:
            case "wait":
                return Wait(WaitCall.model_validate(given).steps)
            case "done":
                return Done(DoneCall.model_validate(given).summary)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ToolMisused("; ".join(problems)) from error
    return _ask(name, given)


def _ask(name: str, given: Json) -> Ask:
    kinds = [tool["function"]["name"] for tool in _command_tools()]
    if name not in kinds:
        raise ToolMisused(f"there is no tool {name!r}; there are {', '.join(kinds)}, wait, done")
    reason = given.pop("reason", "")
    if not isinstance(reason, str) or not 0 < len(reason) <= LONGEST_REASON:
        raise ToolMisused("reason: say in 1 to 500 characters why; it is kept with the command")
    return Ask(name, {key: value for key, value in given.items() if value is not None}, reason)


def _command_tools() -> list[Json]:
    schema = TypeAdapter(AnyCommand).json_schema()
    definitions: Json = schema["$defs"]
    tools = []
    for kind, reference in schema["discriminator"]["mapping"].items():
        command = _written_out(definitions[reference.rpartition("/")[2]], definitions)
        parameters = command["properties"]
        del parameters["kind"]
        tools.append(
            _function(
                kind,
                command["description"],
                {
                    "type": "object",
                    "properties": parameters | {"reason": REASON},
                    "required": [*command.get("required", []), "reason"],
                    "additionalProperties": False,
                },
            )
        )
    return tools


def _tool(name: str, model: type[BaseModel]) -> Json:
    schema = model.model_json_schema()
    return _function(name, schema.pop("description"), schema)


def _function(name: str, description: str, parameters: Json) -> Json:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _written_out(node: Any, definitions: Json) -> Any:  # noqa: ANN401  (any part of a JSON schema)
    """The schema without references and titles."""
    if isinstance(node, list):
        return [_written_out(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _written_out(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {
        key: _written_out(value, definitions)
        for key, value in node.items()
        if key != "title" or not isinstance(value, str)
    }
