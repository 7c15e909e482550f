"""A run's health at the terminal: which signals are on, and what came and went."""

from typing import Annotated
from urllib.parse import quote

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, RunName, Url, remote
from control_api.cli.output import answer, table, talk
from control_api.remote import Answer


def health(
    run: RunName,
    *,
    last: Annotated[int, typer.Option(help="How many, the newest first.", min=1, max=1000)] = 20,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Show the signals of a run's health, each with what to do next."""
    server, path = remote(url, key), f"/v1/runs/{quote(run, safe='')}"
    on = server.get(path)["signals"]
    page = server.get(f"{path}/health", limit=last)
    if as_json:
        answer({"on": on, "items": page["items"], "total": page["total"]}, as_json=True, text="")
        return
    talk(f"on now: {', '.join(on)}" if on else "no signal is on")
    columns = ("step", "branch", "signal", "state", "what and what to do")
    table(columns, (_row(signal) for signal in page["items"]))


def _row(signal: Answer) -> tuple[str, ...]:
    answered = "; a policy has answered" if signal["command_id"] else ""
    return (
        str(signal["step"]),
        signal["branch"],
        signal["name"],
        signal["state"],
        signal["message"] + answered,
    )
