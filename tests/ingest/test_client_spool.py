"""The SDK's spool: what was captured outlives its process, and comes once."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from ingest.client import Client
from ingest.client.spool import SEGMENT_BYTES
from tests.intake import Intake
from tests.scripted_server import accept, answer, hang, scripted
from tests.serving import Ingesting
from tests.waiting import wait_until

KEY = "st_00000000_key"
AWAY = "http://127.0.0.1:1"

capture = partial(Client.capture, session_id="visit", kind="action", payload={"x": 66, "y": 60})

# A host that says so when it has captured, and goes on capturing until it is killed.
HOST = """
import sys
from ingest.client import Client
url, key, spool, name = sys.argv[1:]
client = Client(url, key, spool=spool)
number = 0
while True:
    event_id = f"{name}-{number}"
    assert client.capture(session_id=name, kind="action", payload={}, event_id=event_id)
    print(event_id, flush=True)
    number += 1
"""


def files(spool: Path) -> list[Path]:
    return sorted(spool.glob("*.spool"))


def killed_host(spool: Path, url: str, key: str, name: str, num_events: int) -> list[str]:
    """The ids that a host had captured when it was killed."""
    command = [sys.executable, "-c", HOST, url, key, str(spool), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        captured = [host.stdout.readline().strip() for _ in range(num_events)]
        host.send_signal(signal.SIGKILL)
        captured += host.stdout.read().split()
        host.wait()
    return captured


def test_what_a_killed_host_had_captured_is_sent_by_its_next_start(
    tmp_path: Path, server: Ingesting
) -> None:
    captured = killed_host(tmp_path, AWAY, KEY, "visit", 1_000)
    with Client(server.url, server.key, spool=tmp_path) as client:
        wait_until(lambda: client.stats().queued == 0 and client.stats().sent > 0)
        assert client.flush(20.0)
    sent = [event.event_id for event in server.logged()]
    # One more may have been captured than the host could say.
    assert sent[: len(captured)] == captured
    assert len(sent) - len(captured) <= 1
    assert files(tmp_path) == []


def test_killed_hosts_and_a_killed_answer_give_every_event_once(
    tmp_path: Path, intake: Intake, server: Ingesting
) -> None:
    captured = killed_host(tmp_path, server.url, server.key, "first", 500)  # sent in part
    captured += killed_host(tmp_path, AWAY, KEY, "second", 500)
    with scripted(answer(503)) as away, Client(away.url, KEY, spool=tmp_path) as client:
        wait_until(lambda: client.stats().retries > 0)
        client.close(0.0)
    with Client(server.url, server.key, spool=tmp_path) as client:
        wait_until(lambda: len(server.logged()) >= len(captured))
        assert client.flush(20.0)
    intake.consume()
    stored = [event.event_id for event in intake.events()]
    assert len(stored) == len(set(stored))
    assert set(captured) <= set(stored)
    assert len(stored) - len(captured) <= 2
    assert intake.dead_letters() == []


def test_two_processes_share_a_folder_and_neither_sends_the_others_events(
    tmp_path: Path, server: Ingesting
) -> None:
    with scripted(hang) as stuck:
        living = Client(stuck.url, KEY, spool=tmp_path, timeout_s=1.0)
        capture(living, event_id="of the living")
        left = killed_host(tmp_path, AWAY, KEY, "dead", 10)
        with Client(server.url, server.key, spool=tmp_path) as client:
            capture(client, event_id="own")
            wait_until(lambda: len(server.logged()) > len(left))
            assert client.flush(20.0)
        living.close(0.0)
    sent = {event.event_id for event in server.logged()}
    assert {"own", *left} <= sent
    assert "of the living" not in sent


def test_what_is_left_at_the_end_is_kept_and_counted_as_kept(tmp_path: Path) -> None:
    client = Client(AWAY, KEY, spool=tmp_path)
    captured = [capture(client) for _ in range(5)]
    assert not client.close(0.0)
    assert (client.stats().queued, client.stats().kept, client.stats().dropped) == (0, 5, 0)
    wait_until(lambda: not client._thread.is_alive())  # until then what it has is not left over
    with scripted(accept) as server, Client(server.url, KEY, spool=tmp_path) as later:
        wait_until(lambda: later.stats().sent == 5)
        lines = [line for request in server.requests for line in request.lines]
    assert [str(each) in line.decode() for each, line in zip(captured, lines, strict=True)] == [
        True
    ] * 5


def test_a_full_spool_leaves_what_is_new_to_the_memory_and_then_drops_it(tmp_path: Path) -> None:
    errors: list[str] = []
    with scripted(hang) as server:
        client = Client(
            server.url,
            KEY,
            spool=tmp_path,
            spool_bytes=2_000,
            queue_size=3,
            timeout_s=1.0,
            on_error=errors.append,
        )
        captured = [capture(client) for _ in range(40)]
        stats = client.stats()
        size = sum(path.stat().st_size for path in files(tmp_path))
        client.close(0.0)
    num_taken = sum(each is not None for each in captured)
    assert size <= 2_000
    assert (stats.queued, stats.dropped) == (num_taken, 40 - num_taken)
    assert [error.split(";")[0] for error in errors[:2]] == [
        "the spool has its 2000 bytes",
        "action event dropped: the queue is full",
    ]


def test_the_order_of_capture_is_kept_from_spool_to_memory_and_back(tmp_path: Path) -> None:
    with scripted(answer(503), accept) as server:
        client = Client(server.url, KEY, spool=tmp_path, spool_bytes=2_000, batch_size=7)
        captured = [capture(client) for _ in range(40)]
        wait_until(lambda: client.flush(0.05))
        captured += [capture(client) for _ in range(5)]
        assert client.close(20.0)
        lines = [line for request in server.requests[1:] for line in request.lines]
    assert [line.decode().split('"')[3] for line in lines] == captured


def test_a_settled_file_goes_and_the_space_is_free_again(tmp_path: Path) -> None:
    payload = {"text": "x" * 100_000}
    with scripted(accept) as server:
        with Client(server.url, KEY, spool=tmp_path, spool_bytes=4 * SEGMENT_BYTES) as client:
            for _ in range(8):
                for _ in range(15):
                    capture(client, payload=payload)
                assert client.flush(20.0)
            assert client.stats()[:5] == (0, 120, 0, 0, 0)
            assert sum(path.stat().st_size for path in files(tmp_path)) <= SEGMENT_BYTES
        assert files(tmp_path) == []


def test_a_torn_last_line_and_a_damaged_one_cost_no_neighbour(
    tmp_path: Path, server: Ingesting
) -> None:
    captured = killed_host(tmp_path, AWAY, KEY, "visit", 20)
    [path] = files(tmp_path)
    content = path.read_bytes().split(b"\n")[: len(captured)]
    content[7] = content[7][:-20] + b"\x00" * 20
    path.write_bytes(b"\n".join(content) + b'\n{"event_id":"torn')
    with Client(server.url, server.key, spool=tmp_path) as client:
        wait_until(lambda: client.stats().queued == 0 and client.stats().sent > 0)
        assert client.flush(20.0)
        assert client.stats().rejected == 1
    sent = [event.event_id for event in server.logged()]
    assert sent == captured[:7] + captured[8:]


def test_a_disk_that_takes_nothing_costs_the_spool_and_no_event(
    tmp_path: Path, server: Ingesting
) -> None:
    script = """
import resource, signal, sys
from ingest.client import Client
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))  # as a full disk
client = Client(sys.argv[1], sys.argv[2], spool=sys.argv[3])
ids = [client.capture(session_id="v", kind="action", payload={}) for _ in range(50)]
assert None not in ids
assert client.close(20)
assert client.stats().sent == 50, client.stats()
"""
    command = [sys.executable, "-c", script, server.url, server.key, str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    assert len(server.logged()) == 50


def test_a_forked_child_neither_sends_nor_frees_its_parents_spool(
    tmp_path: Path, server: Ingesting
) -> None:
    script = """
import os, sys
from ingest.client import Client
url, key, spool = sys.argv[1:]
client = Client(url, key, spool=spool, flush_interval_s=60)
client.capture(session_id="visit", kind="action", payload={}, event_id="parent")
child = os.fork()
if child == 0:
    assert client.stats().queued == 0
    client.capture(session_id="child", kind="action", payload={}, event_id="child")
    os._exit(0 if client.close(20) and client.stats().sent == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
assert client.stats().queued == 1
assert client.close(20)
assert client.stats().sent == 1
"""
    command = [sys.executable, "-c", script, server.url, server.key, str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    assert sorted(event.event_id for event in server.logged()) == ["child", "parent"]
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_one_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="spool: "):
        Client(AWAY, KEY, spool=tmp_path / "file" / "spool")
