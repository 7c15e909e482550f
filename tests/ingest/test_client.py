"""What the SDK promises its host, against the real endpoint and against servers on a bad day."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

import ingest.client
from ingest.client import Client
from ingest.client.client import MAX_BATCH_BYTES, MAX_EVENT_BYTES
from ingest.client.transport import wait_s
from ingest.log import EventLog
from ingest.settings import Settings
from tests.ports import unused_port
from tests.scripted_server import (
    ScriptedServer,
    Step,
    accept,
    answer,
    break_off,
    drop,
    hang,
    scripted,
)
from tests.serving import Ingesting, ingesting

KEY = "st_00000000_key"


capture = partial(Client.capture, session_id="visit", kind="action", payload={"x": 66, "y": 60})


def ids(server: ScriptedServer) -> list[list[str]]:
    """The event ids of each request."""
    return [[json.loads(line)["event_id"] for line in each.lines] for each in server.requests]


def run_python(script: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def test_the_folder_alone_is_the_whole_sdk(tmp_path: Path) -> None:
    shutil.copytree(Path(ingest.client.__file__).parent, tmp_path / "client")
    script = "import sys; sys.path.insert(0, sys.argv[1]); import client; print(client.Client)"
    subprocess.run([sys.executable, "-I", "-S", "-c", script, tmp_path], check=True, cwd="/")


def test_every_captured_event_is_stored_with_its_id(server: Ingesting) -> None:
    with Client(server.url, server.key) as client:
        captured = [capture(client) for _ in range(250)]
        assert client.flush(10.0)
    assert [event.event_id for event in server.logged()] == captured
    assert client.stats().sent == 250


def test_all_fields_arrive_as_they_were_given(server: Ingesting) -> None:
    with Client(server.url, server.key) as client:
        capture(client, user_id="u", timestamp=12.5, event_id="e", model="m", frame="f", sequence=7)
    (event,) = server.logged()
    said = event.model_dump(exclude_unset=True)
    assert said == {
        "event_id": "e",
        "session_id": "visit",
        "user_id": "u",
        "sequence": 7,
        "timestamp": 12.5,
        "model": "m",
        "frame": "f",
        "kind": "action",
        "payload": {"x": 66, "y": 60},
    }


def test_events_are_numbered_per_session_over_all_threads(server: Ingesting) -> None:
    with Client(server.url, server.key) as client:

        def visit() -> None:
            for _ in range(50):
                capture(client, session_id="one")
                capture(client, session_id="other")

        threads = [threading.Thread(target=visit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(10.0)
    numbers: defaultdict[str, list[int | None]] = defaultdict(list)
    for event in server.logged():
        numbers[event.session_id].append(event.sequence)
    assert {name: sorted(n or 0 for n in seen) for name, seen in numbers.items()} == {
        "one": list(range(200)),
        "other": list(range(200)),
    }


def test_acknowledged_ids_are_reported_before_flush_returns(server: Ingesting) -> None:
    acknowledged: list[str] = []
    with Client(server.url, server.key, on_acknowledged=acknowledged.extend) as client:
        captured = [capture(client) for _ in range(30)]
        capture(client, kind="nonsense")
        assert client.flush(10.0)
        assert acknowledged == captured


def test_a_rejected_event_takes_no_neighbour_with_it(server: Ingesting) -> None:
    errors: list[str] = []
    with Client(server.url, server.key, on_error=errors.append) as client:
        good = capture(client)
        bad = capture(client, kind="nonsense", payload={"typed": "hunter2"})
        assert client.flush(10.0)
    assert [event.event_id for event in server.logged()] == [good]
    assert (client.stats().sent, client.stats().rejected) == (1, 1)
    assert len(errors) == 1
    assert str(bad) in errors[0]
    assert "hunter2" not in errors[0]


def test_an_event_that_comes_twice_is_counted_as_a_duplicate(server: Ingesting) -> None:
    with Client(server.url, server.key) as client:
        for _ in range(2):
            capture(client, event_id="same", sequence=0, timestamp=1.0)
        assert client.flush(10.0)
    assert (client.stats().sent, client.stats().duplicate) == (1, 1)


def test_a_wrong_key_is_a_rejection_that_is_not_retried(server: Ingesting) -> None:
    with Client(server.url, KEY) as client:
        capture(client)
        assert client.flush(10.0)
    stats = client.stats()
    assert (stats.rejected, stats.retries) == (1, 0)
    assert "401" in str(stats.last_error)


def test_a_batch_too_large_for_the_server_is_halved(
    settings: Settings, engine: Engine, event_log: EventLog
) -> None:
    strict = settings.model_copy(update={"max_batch_events": 3})
    with ingesting(strict, engine, event_log) as server, Client(server.url, server.key) as client:
        captured = [capture(client) for _ in range(20)]
        assert client.flush(10.0)
    assert [event.event_id for event in server.logged()] == captured


@pytest.mark.parametrize(
    "failure",
    [
        answer(503, Retry_After="0"),
        answer(429),
        answer(408),
        answer(500),
        answer(200, b"<html>a proxy's page</html>"),
        answer(202, b'{"accepted": 0, "duplicate": 0, "rejected": []}'),
        drop,
        break_off,
    ],
)
def test_what_time_can_cure_is_retried_with_the_same_ids(failure: Step) -> None:
    with scripted(failure, failure, accept) as server, Client(server.url, KEY) as client:
        captured = [capture(client) for _ in range(3)]
        while not client.flush(0.02):  # a new flush does not wait for the backoff
            assert len(server.requests) <= 3
    assert ids(server) == [captured] * 3
    assert (client.stats().sent, client.stats().retries) == (3, 2)


def test_the_server_is_left_alone_for_as_long_as_it_asks() -> None:
    failure = answer(503, Retry_After="1")
    with scripted(failure, accept) as server, Client(server.url, KEY) as client:
        capture(client)
        while not server.requests:
            assert not client.flush(0.01)
        assert client.flush(10.0)
    first, second = server.requests
    assert second.at - first.at >= 1.0


def test_events_wait_for_a_server_that_is_not_there_yet() -> None:
    port = unused_port()
    with Client(f"http://127.0.0.1:{port}", KEY) as client:
        captured = [capture(client) for _ in range(3)]
        while not client.stats().retries:
            client.flush(0.01)
        with scripted(accept, port=port) as server:
            assert client.flush(10.0)
    assert ids(server) == [captured]


def test_a_hanging_server_holds_up_neither_capture_nor_close() -> None:
    with scripted(hang) as server:
        client = Client(server.url, KEY, timeout_s=1.0)
        started = time.monotonic()
        for _ in range(1_000):
            capture(client)
        captured_after = time.monotonic() - started
        assert not client.flush(0.1)
        assert not client.close(0.3)
        assert time.monotonic() - started < captured_after + 2.0
        assert captured_after < 2.0
    assert (client.stats().queued, client.stats().dropped) == (0, 1_000)


def test_a_full_queue_drops_what_is_new_and_counts_it() -> None:
    with scripted(hang) as server:
        client = Client(server.url, KEY, queue_size=5, timeout_s=1.0)
        captured = [capture(client) for _ in range(8)]
        stats = client.stats()
        client.close(0.0)
    assert [each is None for each in captured] == [False] * 5 + [True] * 3
    assert (stats.queued, stats.dropped) == (5, 3)
    assert "queue is full" in str(stats.last_error)


def test_an_event_too_large_is_dropped_by_name_and_size_only() -> None:
    errors: list[str] = []
    with Client("http://127.0.0.1:1", KEY, on_error=errors.append) as client:
        assert capture(client, payload={"text": "secret " * (MAX_EVENT_BYTES // 7)}) is None
    assert client.stats().dropped == 1
    assert "action" in errors[0]
    assert str(MAX_EVENT_BYTES) in errors[0]
    assert "secret" not in errors[0]


class Hostile:
    """A payload that raises whatever one does with it."""

    def __iter__(self) -> None:
        raise ZeroDivisionError


CYCLIC: dict[str, object] = {}
CYCLIC["itself"] = CYCLIC


@pytest.mark.parametrize(
    "payload",
    [{"x": object()}, {"x": float("nan")}, {"x": "\ud800"}, CYCLIC, Hostile(), 7],
    ids=["object", "NaN", "half a character", "cycle", "hostile", "number"],
)
def test_what_cannot_be_encoded_is_dropped_and_raises_nothing(
    payload: Mapping[str, object],
) -> None:
    with Client("http://127.0.0.1:1", KEY) as client:
        assert capture(client, payload=payload) is None
    assert (client.stats().dropped, client.stats().queued) == (1, 0)


def test_a_callback_that_raises_stops_nothing(server: Ingesting) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    with Client(server.url, server.key, on_error=fail, on_acknowledged=fail) as client:
        capture(client, kind="nonsense")
        capture(client)
        assert client.flush(10.0)
        capture(client)
        assert client.flush(10.0)
    assert (client.stats().sent, client.stats().rejected) == (2, 1)


def test_a_closed_client_takes_nothing_more(server: Ingesting) -> None:
    client = Client(server.url, server.key)
    capture(client)
    assert client.close(10.0)
    assert capture(client) is None
    assert (client.stats().sent, client.stats().dropped) == (1, 1)


def test_requests_are_bounded_in_bytes_and_large_ones_compressed() -> None:
    with scripted(accept) as server:
        with Client(server.url, KEY) as client:
            for _ in range(9):
                capture(client, payload={"text": "x" * 1_000_000})
            assert client.flush(20.0)
        sizes = [sum(map(len, each.lines)) for each in server.requests]
    assert sum(len(each.lines) for each in server.requests) == 9
    assert max(sizes) <= MAX_BATCH_BYTES
    assert {each.headers.get("Content-Encoding") for each in server.requests} == {"gzip"}


def test_a_program_that_just_ends_has_sent_its_events(server: Ingesting) -> None:
    script = """
import sys
from ingest.client import Client
Client(sys.argv[1], sys.argv[2]).capture(session_id="visit", kind="end", event_id="last")
"""
    run_python(script, server.url, server.key)
    assert [event.event_id for event in server.logged()] == ["last"]


def test_a_forked_child_sends_its_own_events_and_not_its_parents(server: Ingesting) -> None:
    script = """
import os, sys
from ingest.client import Client
client = Client(sys.argv[1], sys.argv[2], flush_interval_s=60)
client.capture(session_id="visit", kind="action", payload={}, event_id="parent")
child = os.fork()
if child == 0:
    client.capture(session_id="child", kind="action", payload={}, event_id="child")
    assert client.stats().queued == 1
    os._exit(0 if client.close(10) and client.stats().sent == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
assert client.close(10)
assert client.stats().sent == 1
"""
    run_python(script, server.url, server.key)
    assert sorted(event.event_id for event in server.logged()) == ["child", "parent"]


@pytest.mark.parametrize("url", ["localhost:7420", "ftp://localhost", "http://", "", "http://h:x"])
def test_an_address_that_cannot_be_one_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match=r"url|[Pp]ort"):
        Client(url, KEY)


@pytest.mark.parametrize("key", ["", "st_key\r\nX-Injected: 1", "schl\u00fcssel"])
def test_a_key_that_cannot_be_one_is_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        Client("http://localhost:7420", key)


@given(attempt=st.integers(1, 10_000))
def test_waits_double_up_to_half_a_minute(attempt: int) -> None:
    longest = min(30.0, 0.25 * 2.0 ** min(attempt, 20))
    assert longest / 2 <= wait_s(attempt, None) <= longest


@given(attempt=st.integers(1, 100), seconds=st.integers(0, 10**9))
def test_the_servers_wish_replaces_the_wait_up_to_five_minutes(attempt: int, seconds: int) -> None:
    assert wait_s(attempt, str(seconds)) == min(seconds, 300.0)


@given(retry_after=st.text(max_size=30).filter(lambda text: not text.isdecimal()))
def test_a_wish_that_cannot_be_read_is_no_wish(retry_after: str) -> None:
    assert 0.25 <= wait_s(1, retry_after) <= 0.5
