"""What `benchmarks/ingest.py` puts together: an installation, its processes, and their memory."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from ingest.database import open_engine, upgrade, write
from ingest.keys import Role, create_key
from ingest.settings import Settings

READY_WITHIN_S = 60.0
NO_LIMIT = 1_000_000_000


class Installation:
    """A fresh folder with its schema and keys; its processes are started one by one."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        """Make it; `changed` are settings that differ from the defaults."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # One key sends what a whole production would.
        limits = {"max_requests_per_min": NO_LIMIT, "max_events_per_min": NO_LIMIT}
        self.settings = Settings(data=folder / "data", port=port, **limits, **changed)
        self.url = f"http://127.0.0.1:{port}"
        upgrade(self.settings)

    def key(self, role: Role = "ingest") -> str:
        """A key of this role."""
        engine = open_engine(self.settings.resolved_database_url)
        with write(engine) as session:
            key = create_key(session, role, "benchmark")
        engine.dispose()
        return key

    @contextmanager
    def server(self) -> Iterator["Process"]:
        """The API in a process of its own."""
        with self.process("control_api.serve") as process:
            deadline = time.monotonic() + READY_WITHIN_S
            while time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    httpx.get(self.url + "/livez")
                    break
                time.sleep(0.05)
            yield process

    @contextmanager
    def process(self, module: str, *arguments: str) -> Iterator["Process"]:
        """A process of this installation, told to end afterwards."""
        process = Process(module, *arguments, environment=self.environment())
        try:
            yield process
        finally:
            process.end()

    def load(self, key: str, **options: object) -> dict[str, Any]:
        """What `benchmarks.ingest_load` says when it has sent all."""
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return said_by("benchmarks.ingest_load", self.url, key, *words)

    def environment(self) -> dict[str, str]:
        """What makes a process one of this installation's."""
        changed = self.settings.model_dump(exclude_unset=True)
        return {f"STOVETOP_{name.upper()}": str(value) for name, value in changed.items()}


class Process:
    """A Python module as a process, which says nothing."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self._started = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def cpu_s(self) -> float:
        """The processor's seconds that it has taken so far."""
        return cpu_s(self._started.pid)

    def peak_mb(self) -> int:
        """The most memory that it has held so far."""
        return peak_mb(self._started.pid)

    def end(self) -> None:
        """Tell it to end, and wait."""
        self._started.terminate()
        self._started.wait()


def said_by(module: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON line that a module prints; raises CalledProcessError where it fails."""
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return said


def cpu_s(pid: int) -> float:
    """The processor's seconds that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> int:
    """The most memory that a process has held so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) >> 10
