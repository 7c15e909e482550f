"""The demo on a terminal: a line for each thing that happens, a table at the end, a result file."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from control_api.demo.machine import DemoFailed, Machine
from control_api.demo.story import Account, Story
from control_api.demo.verdict import Promise, judge
from control_api.remote import RemoteError

console = Console(highlight=False, soft_wrap=True)


def run_demo(data: Path | None, port: int, check: bool, json_path: Path | None) -> int:
    """Run the demo; the exit code: 0 if every promise held.

    `check` runs it unattended and ends; otherwise the page stays up until Ctrl-C.
    """
    folder = data or Path(tempfile.mkdtemp(prefix="stovetop-demo-"))
    clock = Clock()
    try:
        with Machine(folder, port) as machine:
            clock.say(f"the page is live: {machine.page}")
            promises, account = _tell(machine, clock)
            _show_table(account, promises)
            if json_path is not None:
                _write(json_path, clock, promises, account)
            console.print(f"page {machine.page}   data {machine.data}")
            if not check:
                console.print("Ctrl-C ends it.")
                _wait_for_ctrl_c()
    except (DemoFailed, RemoteError) as error:
        console.print(f"[red]demo:[/] {error}")
        return 1
    return 0 if all(promise.held for promise in promises) else 1


class Clock:
    """Seconds since the start, said with each line."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_at

    def say(self, what: str) -> None:
        """Print one line."""
        console.print(f"[dim]{self.seconds:5.0f} s[/]  {what}")


def _tell(machine: Machine, clock: Clock) -> tuple[list[Promise], Account]:
    story = Story(machine, clock.say)
    with console.status("people use the model, the model learns; watch it on the page"):
        account = story.tell()
    return judge(story, account, machine.engine), account


def _show_table(account: Account, promises: list[Promise]) -> None:
    table = Table("held-out people judge", "before", "after", "control", title="Balanced accuracy")
    for suite in account.judged["base"]:
        shown = [
            f"{result['balanced_accuracy']:.3f} "
            f"[{result['interval'][0]:.2f}, {result['interval'][1]:.2f}]"
            for result in (account.judged[name][suite] for name in ("base", "live", "control"))
        ]
        table.add_row(suite, *(text.replace("[", "\\[") for text in shown))
    console.print(table)
    for promise in promises:
        mark = "[green]held[/]  " if promise.held else "[red]BROKEN[/]"
        console.print(f"{mark} {promise.says}")
        told = ", ".join(f"{name} {_rounded(value)}" for name, value in promise.numbers.items())
        console.print(f"         [dim]{told.replace('[', chr(92) + '[')}[/]")


def _rounded(value: object) -> object:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def _write(path: Path, clock: Clock, promises: list[Promise], account: Account) -> None:
    result = {
        "commit": _commit(),
        "wall_s": round(clock.seconds, 1),
        "num_cpus": os.cpu_count(),
        "all_held": all(promise.held for promise in promises),
        "promises": [
            {"says": promise.says, "held": promise.held, "numbers": promise.numbers}
            for promise in promises
        ],
        "judged": account.judged,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def _commit() -> str | None:
    root = Path(__file__).parents[2]
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _wait_for_ctrl_c() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
