"""What was asked of a run, at the terminal; and decisions on what waits for one."""

import json
from itertools import islice
from typing import Annotated
from urllib.parse import quote

import typer

from control_api.cli.asking import Approved
from control_api.cli.options import DEFAULT_URL, AsJson, Key, RunName, Url, remote
from control_api.cli.output import answer, table, talk
from control_api.cli.run import CommandId
from control_api.remote import Answer


def commands(
    run: RunName,
    *,
    state: Annotated[
        str | None, typer.Option(help="Only those in this state, such as proposed.")
    ] = None,
    last: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """List what was asked of a run: who, why, and what became of it."""
    path = f"/v1/runs/{quote(run, safe='')}/commands"
    items = list(islice(remote(url, key).pages(path, state=state), last))
    if as_json:
        answer({"items": items, "total": len(items)}, as_json=True, text="")
        return
    if not items:
        talk("no commands")
    columns = ("number", "command", "what", "state", "from step", "who", "why")
    table(columns, (_row(command) for command in items))


def approve(command: CommandId) -> Approved:
    """Let a run take a command that was proposed."""
    return Approved(command)


def refuse(
    command: CommandId,
    *,
    reason: Annotated[str, typer.Option(help="Why; whoever proposed it reads it.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Let nobody take a command that was proposed."""
    refused = remote(url, key).refuse(command, reason)
    answer(refused, as_json=as_json, text=f"{refused['kind']} is rejected")


def _row(command: Answer) -> tuple[str, ...]:
    step = command["effective_step"]
    return (
        str(command["number"]),
        command["command_id"],
        f"{command['kind']} {json.dumps(command['args'])}" if command["args"] else command["kind"],
        command["state"],
        "" if step is None else str(step),
        command["actor"],
        command["error"] or command["reason"],
    )
