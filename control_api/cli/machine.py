"""Commands on the machine itself: start an installation, train a run, upgrade, demo."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from control_api.cli.options import AsJson, Data, settings_of
from control_api.cli.output import CommandFailed, answer

if TYPE_CHECKING:
    from ingest.settings import Settings


def up(
    data: Data = None,
    port: Annotated[int | None, typer.Option(help="Port of the server; 0: a free one.")] = None,
    train: Annotated[str | None, typer.Option(help="A run to resume and keep going.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C."""
    from control_api.folder_lock import FolderHeld
    from control_api.supervise import PortTaken, supervising
    from ingest.logs import log_to

    log_to(sys.stderr)
    settings = settings_of(data, port=port)
    try:
        with supervising(settings, run_name=train) as supervisor:
            address = supervisor.address
            value = {"url": address.url, "page": address.page, "data": str(settings.data)}
            text = _next_steps(address.url, address.page, data)
            supervisor.run(partial(answer, value, as_json=as_json, text=text))
    except (FolderHeld, PortTaken) as error:
        raise CommandFailed(str(error)) from error


def _next_steps(url: str, page: str, data: Path | None) -> str:
    where = f" --data {data}" if data else ""
    return "\n".join(
        [
            f"Stovetop is up: {page}",
            f"  describes itself   {url}/openapi.json",
            f"  a key to send with stovetop keys create{where} --role ingest",
            f"  a key to control   stovetop keys create{where} --role operator",
            f"  ship logs          stovetop ship PATH --url {url} --key KEY --follow",
            "Ctrl-C ends it; nothing is lost.",
        ]
    )


def upgrade_database(data: Data = None, as_json: AsJson = False) -> None:
    """Bring the database to the newest schema."""
    from ingest.database import upgrade

    settings = settings_of(data)
    upgrade(settings)
    value = {"data": str(settings.data), "upgraded": True}
    answer(value, as_json=as_json, text=f"the schema in {settings.data} is the newest")


def train(  # noqa: PLR0913  (each is an option of the command)
    name: Annotated[str, typer.Option(help="The run; one that exists is resumed.")],
    *,
    data: Data = None,
    recipe: Annotated[
        str | None, typer.Option(help="Model family, such as causal_lm. [neuralos]")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps until it is done.")] = None,
    mix: Annotated[str | None, typer.Option(help="Mix to draw from.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of a new run.")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(envvar="STOVETOP_POLICY", help="File of rules that answer its signals."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start or resume a run, here in this terminal; Ctrl-C saves and stops it."""
    from control_api.bound import command_line

    settings = settings_of(data)
    # At once, and not after torch has been loaded.
    if policy is not None:
        _check_policy(policy)
    if recipe is not None:
        _check_recipe(recipe)
    options = {
        "--name": name,
        "--recipe": recipe,
        "--max-steps": max_steps,
        "--mix": mix,
        "--lr": lr,
        "--seed": seed,
        "--policy": policy,
    }
    arguments = [str(part) for item in options.items() if item[1] is not None for part in item]
    exit_code = _attached(command_line("trainer.run", *arguments), settings.data)
    if exit_code != 0:
        raise CommandFailed(f"run {name!r} ended with exit code {exit_code}; the reason is above")
    value = _run_as_it_is(settings, name)
    text = f"{name} is {value['state']} at step {value['step']} of branch {value['branch']}"
    answer(value, as_json=as_json, text=text)


def _check_policy(path: Path) -> None:
    from trainer.health.policy import PolicyRefused, read_policy

    try:
        read_policy(path)
    except PolicyRefused as error:
        raise CommandFailed(str(error)) from error


def _check_recipe(recipe: str) -> None:
    from trainer.recipes import UnknownRecipe, class_of

    try:
        class_of(recipe)
    except UnknownRecipe as error:
        raise CommandFailed(str(error)) from error


def _run_as_it_is(settings: "Settings", name: str) -> dict[str, Any]:
    from sqlalchemy import select

    from ingest.database import open_engine, read
    from trainer.tables import Run

    engine = open_engine(settings.resolved_database_url)
    try:
        with read(engine) as session:
            run = session.scalars(select(Run).where(Run.name == name)).one()
            shown = ("run_id", "name", "state", "branch", "step", "lr")
            return {column: getattr(run, column) for column in shown}
    finally:
        engine.dispose()


def _attached(command: list[str], data: Path) -> int:
    """Run a program in this terminal until it ends by itself; signals that end us are its to obey.

    What it says goes to stderr, for stdout is data.
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "STOVETOP_DATA": str(data.absolute())}
    child = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    # Ctrl-C reaches the child by the terminal, too: it is the one to decide when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()


def demo(
    data: Annotated[Path | None, typer.Option(help="A fresh folder. [a temporary one]")] = None,
    port: Annotated[int, typer.Option(help="Port of the server; 0: a free one.")] = 7420,
    check: Annotated[
        bool, typer.Option("--check", help="Unattended; exit 0 only if every promise held.")
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Where to write what was measured.")
    ] = None,
) -> None:
    """Watch a small deployed model learn from its users: the whole line, on this machine."""
    from control_api.demo import run_demo

    raise typer.Exit(run_demo(data, port, check, json_path))
