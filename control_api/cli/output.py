"""What a command says: data to stdout, talk to stderr, and one way to fail."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from control_api.remote import RemoteError


class CommandFailed(Exception):
    """A command can't do what was asked: what happened, and what to do next."""


class Commands(TyperGroup):
    """A group of commands whose refusals end in one line on stderr and exit code 1."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (the type that the parent declares)
        """Run the command; a refusal becomes exit code 1."""
        try:
            return super().invoke(ctx)
        except (CommandFailed, RemoteError) as error:
            talk(f"stovetop: {error}")
            raise typer.Exit(1) from error


def talk(line: str) -> None:
    """Say something to the person at the terminal."""
    typer.echo(line, err=True)


def answer(value: dict[str, Any], *, as_json: bool, text: str) -> None:
    """The command's outcome: one line of JSON, or the text."""
    typer.echo(json.dumps(value, separators=(",", ":")) if as_json else text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows for people, on stdout: aligned, plain, and whole where the terminal is wide enough."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*(str(value) for value in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, markup=False).print(shown)
