"""How fast events come in: `python -m benchmarks.ingest [--json FILE] [--only PART]`.

In one run, on a fresh installation each: events a second through HTTP, durable, on the embedded log
and on a real Kafka, beside the same lines appended to a file and to bare kafka-python; the consumer
into SQLite and PostgreSQL, cutting included; a command's POST while the API is flooded and the
consumer works; and the memory of each process. One API process; the sender has the other core.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.commit import commit
from benchmarks.ingest_floors import to_file, to_kafka
from benchmarks.ingest_parts import Installation, said_by
from tests.kafka.broker import Broker
from tests.postgres import SETTINGS, Cluster

BATCH = 500
LOADS = {
    "batches_of_500": {"connections": 4, "requests": 120, "batch": BATCH},
    "batches_of_500_on_50_connections": {"connections": 50, "requests": 10, "batch": BATCH},
    "single_events": {"connections": 1, "requests": 1_500, "batch": 1},
    "single_events_on_50_connections": {"connections": 50, "requests": 100, "batch": 1},
}
NUM_FLOOR_REQUESTS = 240
NUM_DRAINED_REQUESTS = 40  # on each of 4 connections: 80,000 events
NUM_COMMANDS = 60
COMMAND_EVERY_S = 0.25
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "autovacuum": "on"}

Result = dict[str, Any]


@contextmanager
def fresh(**changed: Any) -> Iterator[Installation]:
    """An installation in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="stovetop-bench-") as folder:
        yield Installation(Path(folder), **changed)


@contextmanager
def kafka() -> Iterator[Broker]:
    """A broker in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="stovetop-bench-") as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()


def loads(installation: Installation) -> Result:
    """Each load on the same server, one after another; what the server took of its core."""
    said: Result = {}
    with installation.server() as server:
        key = installation.key()
        installation.load(key, requests=10, name="warm")
        for name, options in LOADS.items():
            cpu_before = server.cpu_s()
            said[name] = installation.load(key, **options, name=name.replace("_", "-"))
            cpu_s = server.cpu_s() - cpu_before
            said[name]["server_cpu_us_an_event"] = round(cpu_s / said[name]["events"] * 1e6, 1)
        said["server_rss_mb"] = server.peak_mb()
    return said


def embedded() -> Result:
    """The embedded log, beside a file."""
    with fresh() as installation:
        said = loads(installation)
    with tempfile.TemporaryDirectory(prefix="stovetop-bench-") as folder:
        for name, batch in (("batches_of_500", BATCH), ("single_events", 1)):
            for way, is_synced in (("file", False), ("file_with_fsync", True)):
                said[name][way] = to_file(
                    Path(folder), NUM_FLOOR_REQUESTS, batch, is_synced=is_synced
                )
    return said


def on_kafka() -> Result:
    """A real broker on the same cores, beside the bare producer."""
    with kafka() as broker:
        with fresh(kafka=broker.address) as installation:
            said = loads(installation)
            partitions = installation.settings.num_partitions
        for way, is_packed in (("bare_producer_a_record_an_event", False), ("bare_packed", True)):
            said["batches_of_500"][way] = to_kafka(
                broker.address, 60, BATCH, is_packed=is_packed, partitions=partitions
            )
        said["broker_rss_mb"] = broker.peak_mb()
    return said


def consumer() -> Result:
    """From a log to rows and episodes, on both databases."""
    said: Result = {"sqlite": drained()}
    cluster = Cluster(SETTINGS | DURABLE)
    cluster.start()
    try:
        cluster.create("bench")
        said["postgresql"] = drained(database_url=cluster.url("bench"))
    finally:
        cluster.remove()
    return said


def drained(**changed: str) -> Result:
    """What one consumer says that found 80,000 events in the log."""
    with fresh(**changed) as installation:
        with installation.server():
            installation.load(installation.key(), requests=NUM_DRAINED_REQUESTS)
        return said_by("benchmarks.ingest_drain", **installation.environment())


def commands() -> Result:
    """A command's POST to a run, alone and while the API is flooded and the consumer works."""
    with ExitStack() as stack:
        installation = stack.enter_context(fresh())
        server = stack.enter_context(installation.server())
        consumer = stack.enter_context(installation.process("ingest.consume"))
        stack.enter_context(installation.process("benchmarks.ingest_run", "steered"))
        headers = {"Authorization": f"Bearer {installation.key('operator')}"}
        client = stack.enter_context(httpx.Client(base_url=installation.url, headers=headers))
        wait_for_steps(client)
        alone = posted(client)
        stop = threading.Event()
        rates: list[int] = []
        flood = threading.Thread(target=flooded, args=(installation, stop, rates))
        flood.start()
        time.sleep(1.0)  # until its first requests are under way
        under_way = posted(client)
        stop.set()
        flood.join()
        return {
            "alone": alone,
            "under_full_ingest": under_way,
            "events_per_s_meanwhile": min(rates),
            "server_rss_mb": server.peak_mb(),
            "consumer_rss_mb": consumer.peak_mb(),
        }


def flooded(installation: Installation, stop: threading.Event, rates: list[int]) -> None:
    """Full loads, one after another."""
    key = installation.key()
    while not stop.is_set():
        load = installation.load(key, requests=120, name=f"flood-{len(rates)}")
        rates.append(load["events_per_s"])


def wait_for_steps(client: httpx.Client) -> None:
    """Until the run takes steps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = client.get("/v1/runs/steered")
        if answer.is_success and answer.json()["step"] > 0:
            return
        time.sleep(0.1)
    raise TimeoutError("the run takes no steps")


def posted(client: httpx.Client) -> Result:
    """Milliseconds until a command is answered, and how many of them were received by then."""
    taken, states = [], []
    for number in range(NUM_COMMANDS):
        command = {"kind": "set_lr", "args": {"value": 1e-5 * (1 + number % 9)}}
        start = time.perf_counter()
        answer = client.post("/v1/runs/steered/commands", json=command)
        taken.append((time.perf_counter() - start) * 1e3)
        states.append(answer.raise_for_status().json()["state"])
        time.sleep(COMMAND_EVERY_S)
    taken.sort()
    return {
        "post_ms_p50": round(taken[len(taken) // 2], 1),
        "post_ms_p95": round(taken[int(len(taken) * 0.95)], 1),
        "post_ms_most": round(taken[-1], 1),
        "received": sum(state != "pending" for state in states),
        "asked": NUM_COMMANDS,
    }


PARTS = {"embedded": embedded, "kafka": on_kafka, "consumer": consumer, "commands": commands}


def main() -> None:
    """Print and, when asked, write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=tuple(PARTS))
    given = parser.parse_args()
    result: Result = {"commit": commit(), "num_cpus": os.cpu_count()}
    for name, measure in PARTS.items():
        if given.only in (None, name):
            result[name] = measure()
            print(name, json.dumps(result[name], indent=2), flush=True)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
