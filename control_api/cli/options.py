"""The options that commands share, each in one place."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_api.cli.output import CommandFailed
from control_api.remote import TIMEOUT_S, Remote, RemoteError

if TYPE_CHECKING:
    from ingest.settings import Settings

DEFAULT_URL = "http://127.0.0.1:7420"


def _say_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"stovetop {version('stovetop')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_say_version, is_eager=True, help="Say which one this is."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON on stdout.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="STOVETOP_DATA", help="Folder that holds everything. [./stovetop-data]"
    ),
]
Url = Annotated[
    str, typer.Option("--url", envvar="STOVETOP_URL", help="Server to talk to.", metavar="URL")
]
Key = Annotated[
    str,
    typer.Option(
        "--key", envvar="STOVETOP_KEY", help="API key.", show_default=False, metavar="KEY"
    ),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's name or id.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the command.")]
Wait = Annotated[
    float, typer.Option(help="Seconds to wait for the outcome; 0: do not wait.", min=0, max=86_400)
]


def remote(url: str, key: str, timeout_s: float = TIMEOUT_S) -> Remote:
    """The server that a command talks to. Raises CommandFailed without a key."""
    if not key:
        raise CommandFailed(
            "no API key: pass --key or set STOVETOP_KEY "
            "(make one: stovetop keys create --data DIR --role operator)"
        )
    try:
        return Remote(url, key, timeout_s)
    except RemoteError as error:
        raise CommandFailed(error.detail) from error


def settings_of(data: Path | None, **changed: object) -> "Settings":
    """The settings of an installation on this machine; None leaves one as the environment has it.

    Raises CommandFailed naming a variable that does not fit.
    """
    from pydantic import ValidationError

    from ingest.settings import Settings

    given = {name: value for name, value in changed.items() if value is not None}
    if data is not None:
        given["data"] = data
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks each by its field
    except ValidationError as error:
        problems = (
            f"STOVETOP_{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in error.errors()
        )
        raise CommandFailed("; ".join(problems)) from error


def state_folder() -> Path:
    """Where a user's programs keep what they remember between calls (XDG)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "stovetop"
