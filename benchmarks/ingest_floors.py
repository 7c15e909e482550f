"""What `benchmarks/ingest.py` is laid beside: the same lines into a file, and to bare Kafka."""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer

from benchmarks.ingest_load import bodies
from ingest.log.kafka.producer import BATCH_BYTES

FLUSH_EVERY = 20  # requests' worth of events, as 20 clients would have under way


def to_file(folder: Path, num_requests: int, batch: int, *, is_synced: bool) -> dict[str, object]:
    """One write a request, each followed by an fsync where that is asked."""
    lines = [body + b"\n" for body in bodies("file", num_requests, batch)]
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    start = time.perf_counter()
    with path.open("ab", buffering=0) as file:
        for each in lines:
            file.write(each)
            if is_synced:
                os.fsync(file)
    seconds = time.perf_counter() - start
    path.unlink()
    return _rate(num_requests * batch, seconds)


def to_kafka(
    address: str, num_requests: int, batch: int, *, is_packed: bool, partitions: int
) -> dict[str, object]:
    """kafka-python's producer alone, idempotent, acks=all, on a topic that is synced as ours is.

    `is_packed`: the lines of a request are one record; else each is one.
    """
    topic = f"floor-{uuid.uuid4().hex}"
    admin = KafkaAdminClient(bootstrap_servers=[address])
    configs = {"flush.messages": "1"}
    plan = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin.create_topics({topic: plan}, wait_for_metadata=True)
    admin.close()
    records = [
        list(_records(body, is_packed=is_packed)) for body in bodies("bare", num_requests, batch)
    ]
    kafka = KafkaProducer(
        bootstrap_servers=[address],
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        batch_size=BATCH_BYTES,
    )
    start = time.perf_counter()
    for first in range(0, len(records), FLUSH_EVERY):
        _send(kafka, topic, records[first : first + FLUSH_EVERY], partitions)
    seconds = time.perf_counter() - start
    kafka.close()
    return _rate(num_requests * batch, seconds)


def _records(body: bytes, *, is_packed: bool) -> Iterator[bytes]:
    if is_packed:
        yield body
    else:
        yield from body.split(b"\n")


def _send(
    kafka: KafkaProducer, topic: str, requests: Sequence[Sequence[bytes]], partitions: int
) -> None:
    futures = [
        kafka.send(topic, value=value, partition=number % partitions)
        for number, records in enumerate(requests)
        for value in records
    ]
    for future in futures:
        future.get(30)


def _rate(num_events: int, seconds: float) -> dict[str, object]:
    return {
        "events": num_events,
        "seconds": round(seconds, 3),
        "events_per_s": round(num_events / seconds),
    }
