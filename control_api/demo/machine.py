"""A fresh installation under `stovetop up`, with its keys, its API and its runs.

In: an empty folder and a port. Out: a server that answers. Guaranteed: everything started here ends
with this process, whatever ends it, and what the folder holds stays.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from control_api.bound import command_line
from control_api.remote import Remote
from ingest.database import open_engine, write
from ingest.keys import Role, create_key
from ingest.settings import Settings
from ingest.sources import introduce

START_S = 60.0
END_S = 30.0
POLL_S = 0.2


class DemoFailed(Exception):
    """The story can't go on; the text says where to look."""


class Machine(AbstractContextManager["Machine"]):
    """One installation in `data`; `url` is its server's and `page` what a person opens."""

    def __init__(self, data: Path, port: int) -> None:
        """Start it. Raises DemoFailed when the folder is in use or the server does not come."""
        if data.exists() and any(data.iterdir()):
            raise DemoFailed(f"{data} is not empty; name a fresh folder with --data")
        data.mkdir(parents=True, exist_ok=True)
        self.data = data.absolute()
        self.settings = Settings(data=self.data)
        self._log = (self.data / "up.log").open("w")
        self._runs: list[subprocess.Popen[bytes]] = []
        self._up = subprocess.Popen(
            command_line(
                "control_api.cli", "up", "--data", str(data), "--port", str(port), "--json"
            ),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.url, self.page = self._announced()
        self.engine = open_engine(self.settings.resolved_database_url)
        self.remote = Remote(self.url, self.key("operator", "demo"))

    def _announced(self) -> tuple[str, str]:
        assert self._up.stdout is not None
        line = self._up.stdout.readline()
        if not line:
            self._up.wait(END_S)
            told = (self.data / "up.log").read_text().strip().splitlines()[-1:]
            raise DemoFailed(f"the server did not start: {' '.join(told) or 'see up.log'}")
        said = json.loads(line)
        return said["url"], said["page"]

    def key(self, role: Role, source: str) -> str:
        """A new key, made on the machine itself; what it sends is trusted."""
        with write(self.engine) as session:
            if role == "ingest":
                introduce(session, source, is_trusted=True)
            return create_key(session, role, source)

    def train(
        self,
        name: str,
        *,
        mix: str,
        max_steps: int,
        lr: float,
        seed: int,
        recipe: str = "neuralos",
        base: Path | None = None,
    ) -> None:
        """Start a run in a process of its own, from the recipe's own base unless one is named."""
        options = {
            "--name": name,
            "--recipe": recipe,
            "--mix": mix,
            "--max-steps": max_steps,
            "--lr": lr,
            "--seed": seed,
        }
        if base is not None:
            options["--base"] = base
        arguments = [str(part) for item in options.items() for part in item]
        environment = os.environ | {"STOVETOP_DATA": str(self.data), "OMP_NUM_THREADS": "1"}
        log_path = self.data / "logs" / f"run-{name}.log"
        with log_path.open("wb") as log:
            self._runs.append(
                subprocess.Popen(
                    command_line("trainer.run", *arguments),
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def wait(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> None:
        """Wait until something is so. Raises DemoFailed naming it when it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            self._check_alive()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what}: not within {timeout_s:g} s; see {self.data}/logs")
            time.sleep(POLL_S)

    def _check_alive(self) -> None:
        if self._up.poll() is not None:
            raise DemoFailed(f"`stovetop up` ended by itself; see {self.data}/up.log")
        for run in self._runs:
            if run.poll() not in (None, 0):
                raise DemoFailed(f"a run failed; see {self.data}/logs")

    def __exit__(self, *_: object) -> None:
        """End the runs, then the server."""
        processes: list[subprocess.Popen[Any]] = [*self._runs, self._up]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                sys.stderr.write(f"killed process {process.pid}, which did not end by itself\n")
        self.engine.dispose()
        self._log.close()
