"""Appends to the topic: acknowledged by the brokers within a bounded time, or refused.

In: records from the request threads. Out: nothing, once all of them are acknowledged (acks=all).
Guaranteed: a caller waits at most `ANSWER_S`; while the brokers are away only one at a time tries
them and the others are refused at once, so that no request thread and no memory is held by them.
Decision: a producer that failed once is replaced. Its batches may hang between sent and kept, and a
new one starts with a clean sequence; what it kept after all is a record twice, and its events once.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog
from kafka import KafkaProducer
from kafka.errors import IllegalStateError, KafkaError

from ingest.log.interface import LogUnavailable, NewRecord
from ingest.log.kafka.connect import open_client

ANSWER_S = 5.0
RETRY_S = 1.0
BATCH_BYTES = 256 << 10

log = structlog.get_logger()


class Producer:
    """Appends for any number of threads."""

    def __init__(self, brokers: str, topic: str, max_record_bytes: int) -> None:
        """Connect; raises KafkaError."""
        self._topic = topic
        self._connect: Callable[[], KafkaProducer] = lambda: connect(brokers, max_record_bytes)
        self._lock = threading.Lock()
        self._kafka: KafkaProducer | None = self._connect()
        self._retry_at = 0.0

    def append(self, records: Sequence[NewRecord]) -> None:
        """Return once all are acknowledged; raises LogUnavailable."""
        with self._usable() as kafka:
            sent = [
                kafka.send(self._topic, value=record.value, partition=record.partition)
                for record in records
            ]
            deadline = time.monotonic() + ANSWER_S
            for future in sent:
                future.get(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Stop sending; a second time does nothing."""
        with self._lock:
            kafka, self._kafka = self._kafka, None
            self._connect = _closed
        if kafka is not None:
            discard(kafka)

    @contextmanager
    def _usable(self) -> Iterator[KafkaProducer]:
        kafka = self._kafka or self._connect_again()
        try:
            yield kafka
        except KafkaError as error:
            self._give_up(kafka)
            raise LogUnavailable(f"can't append: {error}") from error

    def _connect_again(self) -> KafkaProducer:
        """One thread a second tries; the others need not wait for what it finds."""
        if time.monotonic() < self._retry_at or not self._lock.acquire(blocking=False):
            raise LogUnavailable("can't append: the brokers are away")
        try:
            self._kafka = self._kafka or self._connect()
            return self._kafka
        except KafkaError as error:
            self._retry_at = time.monotonic() + RETRY_S
            raise LogUnavailable(f"can't append: {error}") from error
        finally:
            self._lock.release()

    def _give_up(self, kafka: KafkaProducer) -> None:
        with self._lock:
            if self._kafka is not kafka:  # another thread was here first
                return
            self._kafka = None
            self._retry_at = time.monotonic() + RETRY_S
        log.warning("producer_replaced", topic=self._topic)
        discard(kafka)


def connect(brokers: str, max_record_bytes: int) -> KafkaProducer:
    """A producer that keeps the promises above; raises KafkaError."""
    return open_client(
        KafkaProducer,
        brokers,
        acks="all",
        enable_idempotence=True,
        max_block_ms=2_000,
        request_timeout_ms=3_000,
        delivery_timeout_ms=4_000,  # a batch fails by itself before ANSWER_S is over
        linger_ms=0,  # while one batch of a partition is under way, the next one gathers
        batch_size=BATCH_BYTES,
        max_request_size=max_record_bytes,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )


def discard(kafka: KafkaProducer) -> None:
    """Stop a producer at once: what it has not sent fails."""
    # close() alone first waits for the batches, and raises with its thread still running.
    kafka._sender.force_close()
    with suppress(KafkaError):
        kafka.close(timeout=1)


def _closed() -> KafkaProducer:
    raise IllegalStateError("the log is closed")
