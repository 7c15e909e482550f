"""The command that sends log files in, as they are."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, Url, remote, state_folder
from control_api.cli.output import CommandFailed, answer, talk
from control_api.cli.signals import stop_at_a_signal

if TYPE_CHECKING:
    from ingest.ship import LineReport, Progress


def ship(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Log files or folders.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as they grow.")] = False,
    cursor: Annotated[
        Path | None, typer.Option(help="File that remembers how far each was shipped.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Ship logs of a deployed NeuralOS; each line is stored once, however often this is run."""
    from ingest import ship as shipper

    remote(url, key)
    try:
        with stop_at_a_signal() as stop, _progress_shown() as progress:
            result = shipper.ship(
                paths,
                url,
                key,
                cursor_path=cursor or state_folder() / "ship.json",
                follow=follow,
                stop=stop,
                progress=progress,
            )
    except (shipper.ShipError, ValueError, OSError) as error:
        raise CommandFailed(str(error)) from error
    counts = {
        "sent": result.sent,
        "duplicate": result.duplicate,
        "rejected": result.rejected,
        "torn": result.torn,
    }
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    answer(counts, as_json=as_json, text=text)
    if result.unsent:
        raise CommandFailed(
            f"{len(result.unsent)} files have lines without a verdict, {result.unsent[0]} first; "
            "the same command goes on from here"
        )


@contextmanager
def _progress_shown() -> Iterator[Callable[["Progress"], None]]:
    """Line reports and setbacks on stderr, and on a terminal a progress bar."""
    if not sys.stderr.isatty():
        yield _tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def show(progress: "Progress") -> None:
            for report in progress.reports:
                bar.console.print(_line(report), markup=False, highlight=False)
            said = progress.setback or f"{progress.sent} sent, {progress.duplicate} known"
            bar.update(
                task,
                completed=progress.done_bytes,
                total=progress.total_bytes,
                description=said.replace("[", "\\["),
            )

        yield show


def _tell(progress: "Progress") -> None:
    for report in progress.reports:
        talk(_line(report))
    if progress.setback:
        talk(progress.setback)


def _line(report: "LineReport") -> str:
    return f"{report.file}:{report.line}: {report.code}: {report.detail}"
