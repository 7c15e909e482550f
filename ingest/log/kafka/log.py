"""The event log in one Kafka topic.

In: records from the request threads. Out: the same, by offset, to the readers of all processes,
which share the partitions out among them. Guaranteed: as `interface.py` says; nothing hangs for
longer than a few seconds when the brokers are away.
Decision: the group is named after the topic, so a topic belongs to one database. Consumed records
are dropped after their grace as in the embedded log; the topic's retention is only for what nobody
consumes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import structlog
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from ingest.log.interface import LogUnavailable, NewRecord
from ingest.log.kafka.connect import open_client
from ingest.log.kafka.producer import Producer
from ingest.log.kafka.reader import KafkaReader
from ingest.log.kafka.topic import TopicPlan, ensure_topic
from ingest.settings import Settings

ANSWER_MS = 3_000

log = structlog.get_logger()


class KafkaLog:
    """An `EventLog` on brokers; made after a fork, as kafka-python's clients are not fork-safe."""

    def __init__(self, brokers: str, plan: TopicPlan) -> None:
        """Open the topic, or make it by the plan; raises LogUnavailable."""
        self._brokers = brokers
        self._retention_s = plan.retention_s
        with _unavailable("open"):
            self._admin = open_client(KafkaAdminClient, brokers, request_timeout_ms=ANSWER_MS)
            try:
                self._topic = ensure_topic(self._admin, plan)
                self._producer = Producer(brokers, plan.name, plan.max_record_bytes)
            except BaseException:
                self._admin.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def log_id(self) -> str:
        """The topic's own id: another one when the topic is made again."""
        return self._topic.topic_id

    @property
    def num_partitions(self) -> int:
        """The topic's."""
        return self._topic.num_partitions

    def append(self, records: Sequence[NewRecord]) -> None:
        """Return once all are acknowledged by the brokers; raises LogUnavailable."""
        if any(not 0 <= record.partition < self.num_partitions for record in records):
            raise ValueError(f"partition: must be from 0 to {self.num_partitions - 1}")
        self._producer.append(records)

    def reader(self, start: Callable[[int], int]) -> KafkaReader:
        """Join the group: the partitions are shared among its readers; raises LogUnavailable."""
        return KafkaReader(self._brokers, self._topic.name, start, self._ends)

    def num_waiting(self, offsets: Mapping[int, int]) -> int:
        """How many records are at these offsets or after them; raises LogUnavailable."""
        with _unavailable("count"):
            oldest = self._offsets(offsets, OffsetSpec.EARLIEST)
        ends = self._ends()
        return sum(
            max(0, ends[partition] - max(offset, oldest[partition]))
            for partition, offset in offsets.items()
        )

    def trim(self, before: Mapping[int, int], grace_s: float) -> int:
        """Drop records below these offsets that are older than the grace; returns how many."""
        youngest_ms = int((time.time() - grace_s) * 1000)
        with _unavailable("trim"):
            oldest = self._offsets(before, OffsetSpec.EARLIEST)
            young = self._offsets(before, youngest_ms + 1)
            wanted = {
                partition: min(offset, young[partition]) if young[partition] >= 0 else offset
                for partition, offset in before.items()
            }
            due = {key: offset for key, offset in wanted.items() if offset > oldest[key]}
            return self._delete(due, oldest) if due else 0

    def rewrite(self, _change: Callable[[bytes], bytes]) -> float | None:
        """See `EventLog`: what a broker has is there until the topic's retention is over."""
        return self._retention_s

    def close(self) -> None:
        """Close the connections; a second time does nothing."""
        self._producer.close()
        self._admin.close()

    def _delete(self, before: Mapping[int, int], oldest: Mapping[int, int]) -> int:
        try:
            self._admin.delete_records(
                {self._partition(partition): offset for partition, offset in before.items()}
            )
        except TopicAuthorizationFailedError as error:
            log.warning("trim_not_allowed", error=str(error), kept_for="the topic's retention")
            return 0
        return sum(offset - oldest[partition] for partition, offset in before.items())

    def _ends(self) -> Mapping[int, int]:
        with _unavailable("count"):
            return self._offsets(range(self.num_partitions), OffsetSpec.LATEST)

    def _offsets(self, partitions: Iterable[int], at: OffsetSpec | int) -> dict[int, int]:
        wanted = {self._partition(partition): at for partition in partitions}
        found = self._admin.list_partition_offsets(wanted) if wanted else {}
        return {partition.partition: answer.offset for partition, answer in found.items()}

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._topic.name, number)


def open_kafka_log(settings: Settings, brokers: str) -> KafkaLog:
    """The log that the settings describe, on these brokers; raises LogUnavailable."""
    return KafkaLog(
        brokers,
        TopicPlan(
            name=settings.kafka_topic,
            num_partitions=settings.num_partitions,
            replication=settings.kafka_replication,
            retention_s=settings.kafka_retention_s,
            max_record_bytes=settings.max_record_bytes,
        ),
    )


@contextmanager
def _unavailable(doing: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise LogUnavailable(f"can't {doing}: {error}") from error
