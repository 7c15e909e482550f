"""`stovetop up` with its real processes: one a folder, gone with it, and nothing lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from control_api.remote import Answer, Remote, RemoteError
from ingest.database import write
from ingest.keys import create_key
from ingest.settings import Settings
from tests.control_api.processes import DEADLINE_S, is_alive, until


class Up:
    """A `stovetop up` on a folder."""

    def __init__(self, data: Path, port: int = 0) -> None:
        command = ["up", "--data", str(data), "--port", str(port), "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "control_api.cli", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def announced(self) -> dict[str, Any]:
        """What it says once the server answers."""
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def children(self) -> list[int]:
        """The processes that it started."""
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in tasks.read_text().split()]

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit code and what was said on stderr."""
        self.process.send_signal(number)
        _, talk = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, talk


@pytest.fixture
def up(settings: Settings) -> Iterator[Callable[..., Up]]:
    """Starts `stovetop up` on the fresh folder; all are ended."""
    started: list[Up] = []

    def start(port: int = 0) -> Up:
        started.append(Up(settings.data, port))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGKILL)


@pytest.fixture
def reader(engine: Engine) -> str:
    with write(engine) as session:
        return create_key(session, "viewer", "somebody")


def sign_in(said: dict[str, Any]) -> Answer:
    token = said["page"].partition("#once=")[2]
    return Remote(said["url"], "").post("/v1/sign-in", {"key": token})


def test_a_kill_9_takes_all_along_and_the_next_up_goes_on(
    up: Callable[..., Up], reader: str
) -> None:
    first = up()
    said = first.announced()
    instance = Remote(said["url"], reader).get("/v1/instance")
    until(lambda: len(first.children()) >= 2)
    children = first.children()
    first.end(signal.SIGKILL)
    until(lambda: not any(is_alive(pid) for pid in children))

    second = up(port=int(said["url"].rpartition(":")[2]))
    said_again = second.announced()
    again = Remote(said_again["url"], reader).get("/v1/instance")
    assert (said_again["url"], again["instance_id"]) == (said["url"], instance["instance_id"])
    with pytest.raises(RemoteError):
        sign_in(said)  # an address that nobody has used lives as long as its `up`
    assert sign_in(said_again)["role"] == "viewer"


def test_a_second_up_on_a_live_folder_is_refused(up: Callable[..., Up]) -> None:
    first = up()
    first.announced()
    second = up()
    _, talk = second.process.communicate(timeout=DEADLINE_S)
    assert second.process.returncode == 1
    assert f"process {first.process.pid}" in talk


def test_sigterm_ends_it_in_order(up: Callable[..., Up]) -> None:
    running = up()
    running.announced()
    until(lambda: len(running.children()) >= 5)
    children = running.children()
    code, _ = running.end(signal.SIGTERM)
    assert code == 0
    assert not any(is_alive(pid) for pid in children)


def test_an_event_that_was_acknowledged_is_consumed(
    up: Callable[..., Up], settings: Settings, reader: str
) -> None:
    said = up().announced()
    made = subprocess.run(
        [sys.executable, "-m", "control_api.cli", "keys", "create", "--role", "ingest", "--json"],
        env=os.environ | {"STOVETOP_DATA": str(settings.data)},
        capture_output=True,
        check=True,
        timeout=DEADLINE_S,
    )
    event = {
        "event_id": "e1",
        "session_id": "s1",
        "sequence": 0,
        "timestamp": time.time(),
        "kind": "end",
    }
    answer = Remote(said["url"], json.loads(made.stdout)["key"]).post("/v1/events", [event])
    assert answer == {"accepted": 1, "duplicate": 0, "rejected": []}
    until(lambda: Remote(said["url"], reader).get("/v1/stages")["events"] == 1)


def test_an_api_that_dies_is_started_again_and_requests_wait_for_it(
    up: Callable[..., Up], reader: str
) -> None:
    running = up()
    remote = Remote(running.announced()["url"], reader)
    (api,) = [pid for pid in running.children() if b"control_api.serve" in cmdline(pid)]
    os.kill(api, signal.SIGKILL)
    assert "instance_id" in remote.get("/v1/instance")
    assert api not in running.children()


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_port_that_is_taken_is_said_with_the_fix(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = up(port=taken.getsockname()[1])
        _, talk = refused.process.communicate(timeout=DEADLINE_S)
    assert refused.process.returncode == 1
    assert "--port" in talk


def test_a_run_that_can_not_be_trained_is_said_and_ends_with_1(settings: Settings) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "control_api.cli", "train", "--name", "nobody", "--json"],
        env=os.environ | {"STOVETOP_DATA": str(settings.data)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "run 'nobody' ended with exit code 1" in refused.stderr
