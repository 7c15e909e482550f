"""How the shell asks something of a run: it waits for the outcome and says from which step on.

`asking` makes a shell command of a function that says what is asked, with the options that all of
them have.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from control_api.cli.options import DEFAULT_URL, AsJson, Key, Reason, Url, Wait, remote
from control_api.cli.output import CommandFailed, answer, talk
from control_api.remote import SETTLED, Answer, Remote

WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a run."""

    run: str
    kind: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskedUndo:
    """A command that is to be undone."""

    command_id: str


@dataclass(frozen=True, slots=True)
class Approved:
    """A proposal that the run may take."""

    command_id: str


Anything = Asked | AskedUndo | Approved


def asking(make: Callable[..., Anything]) -> Callable[..., None]:
    """A shell command from a function that says what is asked, with the options of all."""
    own = list(inspect.signature(make).parameters.values())
    shared = list(inspect.signature(_ask).parameters.values())[1:]

    def command(**options: Any) -> None:
        given = {parameter.name: options.pop(parameter.name) for parameter in shared}
        _ask(make(**options), **given)

    command.__doc__ = make.__doc__
    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
    return command


def _ask(
    asked: Anything,
    *,
    reason: Reason = "",
    wait: Wait = WAIT_S,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    server = remote(url, key)
    deadline = time.monotonic() + wait
    command = _sent(server, asked, reason)
    if wait > 0 and command["state"] != "proposed":
        command = server.settled(command["command_id"], wait)
    evaluation = _evaluation(server, command, deadline - time.monotonic()) if wait > 0 else None
    if evaluation is not None:
        command["evaluation"] = evaluation
    problem = _problem(command, wait)
    if as_json or problem is None:
        answer(command, as_json=as_json, text=_outcome(command))
    if problem is not None:
        raise CommandFailed(problem)


def _sent(server: Remote, asked: Anything, reason: str) -> Answer:
    match asked:
        case Asked():
            return server.command(asked.run, asked.kind, asked.args, reason)
        case AskedUndo():
            return server.undo(asked.command_id, reason)
        case Approved():
            return server.approve(asked.command_id, reason)


def _evaluation(server: Remote, command: Answer, timeout_s: float) -> Answer | None:
    evaluation_id = (command["after"] or {}).get("evaluation_id")
    if evaluation_id is None:
        return None
    talk(f"judging the checkpoint of step {command['after']['step']}")
    return server.evaluated(evaluation_id, timeout_s)


def _problem(command: Answer, wait: float) -> str | None:
    """Why a command did not end well, or None."""
    kind, state = command["kind"], command["state"]
    if state in SETTLED and state != "applied":
        return f"{kind} was {state}: {command['error']}"
    if wait > 0 and state not in (*SETTLED, "proposed"):
        return (
            f"{kind} is {state} after {wait:g} s and stays so until the run takes it; --wait longer"
        )
    evaluation = command.get("evaluation")
    if evaluation is not None and evaluation["state"] != "done":
        return f"the evaluation is {evaluation['state']}: {evaluation['error'] or '--wait longer'}"
    return None


def _outcome(command: Answer) -> str:
    if command["state"] == "proposed":
        return (
            f"{command['kind']} is proposed and waits for somebody else: "
            f"stovetop approve {command['command_id']}"
        )
    if command["state"] != "applied":
        return f"{command['kind']} is {command['state']}"
    after = command["after"] or {}
    changes = ", ".join(f"{name} {_shown(value)}" for name, value in after.items())
    lines = [f"{command['kind']} holds from step {command['effective_step']}: {changes}"]
    evaluation = command.get("evaluation")
    if evaluation is not None:
        lines += [f"  {name} {_shown(value)}" for name, value in evaluation["result"].items()]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_shown(inner)}" for name, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
