"""What the SDK leaves its host in peace from: a server away, forks, its own mistakes, its end."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ingest.client import Client, Event
from tests.scripted_server import accept, hang, scripted
from tests.serving import Ingesting

KEY = "st_00000000_key"
AWAY = "http://127.0.0.1:1"

capture = partial(Client.capture, session_id="visit", kind="action", payload={"x": 66, "y": 60})


def run_host(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


@pytest.mark.parametrize("spooled", [False, True])
def test_no_call_raises_or_waits_for_a_server_that_never_answers(
    tmp_path: Path, spooled: bool
) -> None:
    errors: list[str] = []
    spool = tmp_path if spooled else None
    with scripted(hang) as server:  # until the end of this block: who waits for it stays here
        client = Client(server.url, KEY, queue_size=1_000, spool=spool, on_error=errors.append)
        captured = [capture(client) for _ in range(10_000)]
        stats = client.stats()
        client.close(0.0)
    assert sum(each is not None for each in captured) == (10_000 if spooled else 1_000)
    assert (stats.queued, stats.dropped) == ((10_000, 0) if spooled else (1_000, 9_000))
    told = [error for error in errors if "queue is full" in error]
    assert len(told) == (0 if spooled else 1)


def test_before_send_may_change_an_event(server: Ingesting) -> None:
    def blur(event: Event) -> Event:
        return event | {"session_id": "somebody", "payload": {"x": 1}}

    with Client(server.url, server.key, before_send=blur) as client:
        for name in ("ann", "bob"):
            capture(client, session_id=name)
        assert client.flush(10.0)
    logged = server.logged()
    assert [(event.session_id, event.sequence) for event in logged] == [
        ("somebody", 0),
        ("somebody", 1),
    ]
    assert logged[0].model_dump(exclude_unset=True)["payload"] == {"x": 1}


def test_what_before_send_withholds_goes_nowhere_and_leaves_no_gap(server: Ingesting) -> None:
    with Client(
        server.url,
        server.key,
        before_send=lambda event: None if event["payload"].get("secret") else event,
    ) as client:
        kept = [capture(client), capture(client, payload={"secret": 1}), capture(client)]
        assert client.flush(10.0)
    assert kept[1] is None
    assert [event.sequence for event in server.logged()] == [0, 1]
    assert (client.stats().sent, client.stats().withheld, client.stats().last_error) == (2, 1, None)


def fails(event: Event) -> Event:
    if event["payload"].get("bad"):
        raise ZeroDivisionError("hunter2")
    return event


def loses_the_id(event: Event) -> Event:
    return {"kind": "action"} if event["payload"].get("bad") else event


def returns_nonsense(event: Event) -> Event:
    return 7 if event["payload"].get("bad") else event  # type: ignore[return-value]


@pytest.mark.parametrize("before_send", [fails, loses_the_id, returns_nonsense])
def test_an_error_in_before_send_loses_that_event_alone_and_is_told_once(
    server: Ingesting, before_send: Callable[[Event], Event | None]
) -> None:
    errors: list[str] = []
    with Client(server.url, server.key, before_send=before_send, on_error=errors.append) as client:
        for number in range(10):
            capture(client, payload={"bad": number % 2 == 0})
        assert client.flush(10.0)
    assert (client.stats().sent, client.stats().dropped) == (5, 5)
    assert len(errors) == 1
    assert "hunter2" not in errors[0]


def test_forks_amid_captures_give_every_event_of_every_process_once(server: Ingesting) -> None:
    script = """
import os, sys, threading
from ingest.client import Client
client = Client(sys.argv[1], sys.argv[2], flush_interval_s=0.001)
pace = threading.Event()  # never set: else two threads would take the cores that the server needs
stop = threading.Event()
counts = []

def work(name):
    number = 0
    while not stop.is_set():
        if client.capture(session_id=name, kind="action", event_id=f"{name}-{number}"):
            number += 1
        pace.wait(0.001)
    counts.append(number)

threads = [threading.Thread(target=work, args=(f"parent-{n}",)) for n in range(2)]
for thread in threads: thread.start()
for child in range(5):
    process = os.fork()
    if process == 0:
        for number in range(20):
            client.capture(session_id="c", kind="end", event_id=f"{child}-{number}")
        os._exit(0 if client.close(20) and client.stats().sent == 20 else 1)
    assert os.waitpid(process, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
assert client.close(20)
print(sum(counts) + 100)
"""
    num_captured = int(run_host(script, server.url, server.key))
    sent = [event.event_id for event in server.logged()]
    assert len(sent) == len(set(sent)) == num_captured


def test_a_host_ends_though_the_server_never_answers() -> None:
    script = """
import sys
import ingest.client.host
ingest.client.host.EXIT_DEADLINE_S = 0.1
client = ingest.client.Client(sys.argv[1], "st_key")
for _ in range(1_000):
    client.capture(session_id="visit", kind="action")
print("ended")
"""
    with scripted(hang) as server:
        assert run_host(script, server.url) == "ended"


def test_a_capture_at_the_interpreters_very_end_raises_nothing() -> None:
    script = """
import sys
from ingest.client import Client
client = Client(sys.argv[1], "st_key")
class Last:
    def __del__(self):
        print(client.capture(session_id="visit", kind="action"))
sys.last = Last()
"""
    with scripted(accept) as server:
        assert run_host(script, server.url) in ("None", "")
