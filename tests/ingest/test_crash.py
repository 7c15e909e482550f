"""kill -9, for real: what was acknowledged is stored once, whoever dies and whenever."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import orjson

from ingest.settings import Settings
from tests.intake import Intake, wire_event
from tests.ports import unused_port
from tests.waiting import wait_until

SERVER = """
import sys
import uvicorn
from ingest.database import open_engine
from ingest.log import open_log
from ingest.settings import Settings
from tests.serving import ingest_app

settings = Settings()
app = ingest_app(settings, open_engine(settings.resolved_database_url), open_log(settings))
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


@contextmanager
def process(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process of this installation, killed in any case."""
    environment = os.environ | {
        "STOVETOP_DATA": str(settings.data),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    started = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def kill_9(victim: subprocess.Popen[bytes]) -> None:
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL


def test_a_consumer_killed_anywhere_neither_loses_nor_doubles(intake: Intake) -> None:
    rng = random.Random(9)
    num_events, batch = 6_000, 400
    for start in range(0, num_events, batch):
        events = [wire_event(start + n, f"s-{start}") for n in range(batch)]
        assert intake.post(*events).json()["accepted"] == batch
    for _ in range(3):
        before = intake.num_events()
        with process(intake.settings, "-m", "ingest.consume") as consumer:
            wait_until(partial(has_more_than, intake, before))
            time.sleep(rng.uniform(0, 0.03))  # anywhere within its transactions
            kill_9(consumer)
    assert intake.num_events() < num_events, "it was never killed at work"
    intake.consume()
    assert intake.num_events() == num_events
    sessions = intake.sessions()
    assert {session.num_events for session in sessions} == {400}
    episodes = intake.episodes()
    assert sum(episode.num_actions for episode in episodes) == num_events
    assert len(episodes) == len(sessions) == 15
    assert not any(session.needs_cut for session in sessions)


def has_more_than(intake: Intake, num_events: int) -> bool:
    return intake.num_events() > num_events


class Sender(threading.Thread):
    """Sends batches one after the other, each until it is acknowledged, as the SDK does."""

    def __init__(self, url: str, headers: dict[str, str], name: str) -> None:
        super().__init__()
        self._client = httpx.Client(base_url=url, headers=headers)
        self._session_id = name
        self.stop = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        with self._client:
            while not self.stop.is_set():
                start = len(self.acknowledged)
                events = [wire_event(start + n, self._session_id) for n in range(10)]
                while not self._is_acknowledged(orjson.dumps(events)):
                    self.stop.wait(0.01)
                self.acknowledged += [str(event["event_id"]) for event in events]

    def _is_acknowledged(self, body: bytes) -> bool:
        try:
            return self._client.post("/v1/events", content=body).status_code == 202
        except httpx.TransportError:
            return False


def test_what_a_killed_endpoint_acknowledged_is_stored_once(intake: Intake) -> None:
    port = unused_port()
    headers = {
        "Authorization": intake.client.headers["Authorization"],
        "Content-Type": "application/json",
    }
    senders = [Sender(f"http://127.0.0.1:{port}", headers, f"s-{n}") for n in range(4)]
    for sender in senders:
        sender.start()
    for _ in range(2):
        with process(intake.settings, "-c", SERVER, str(port)) as server:
            wait_for_more(senders)
            kill_9(server)
    with process(intake.settings, "-c", SERVER, str(port)):
        wait_for_more(senders)
        for sender in senders:
            sender.stop.set()
        for sender in senders:
            sender.join()
    intake.consume()
    stored = [event.event_id for event in intake.events()]
    assert sorted(stored) == sorted(key for sender in senders for key in sender.acknowledged)
    assert {session.num_events for session in intake.sessions()} == {
        len(sender.acknowledged) for sender in senders
    }


def wait_for_more(senders: list[Sender]) -> None:
    """Until each sender has got another three batches through."""
    reached = [len(sender.acknowledged) + 30 for sender in senders]
    wait_until(
        lambda: all(
            len(sender.acknowledged) >= wanted
            for sender, wanted in zip(senders, reached, strict=True)
        )
    )
