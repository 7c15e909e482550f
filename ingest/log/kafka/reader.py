"""One member of the consumer group: polls in a thread of its own, whatever its database does.

In: the partitions that the group gives this member, each from the offset that SQL knows. Out:
their records. Guaranteed: a partition is paused from its assignment until its start was asked for
in the caller's thread; nothing is ever committed to Kafka; the thread that polls waits for no SQL,
so a slow database never costs the membership and never holds up a rebalance.
Decision: retention that overtook an offset is a record of its own (`lost_from`), so that the gap
gets into SQL in the transaction that jumps it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from kafka.structs import MemberState

from ingest.log.interface import LogRecord, LogUnavailable, ReaderEnded
from ingest.log.kafka.connect import open_client
from ingest.log.kafka.inbox import Inbox

POLL_MS = 100
RETRY_S = 0.2
ANSWER_MS = 5_000
SESSION_TIMEOUT_MS = 10_000  # a member that died is missed for so long
CATCH_UP_S = 30.0  # three times that: a group without this member decides nothing faster
CLOSE_WITHIN_S = 10.0

log = structlog.get_logger()


class KafkaReader:
    """A `LogReader` of the partitions that fall to it."""

    def __init__(
        self,
        brokers: str,
        topic: str,
        start: Callable[[int], int],
        ends: Callable[[], Mapping[int, int]],
    ) -> None:
        """Begin to join; `ends` tells how far every partition reaches. Raises LogUnavailable."""
        self._start = start
        self._ends = ends
        self._inbox = Inbox()
        try:
            self._member = _Member(brokers, topic, self._inbox)
        except KafkaError as error:
            raise LogUnavailable(f"can't read: {error}") from error
        self._member.start()

    def poll(self, timeout_s: float, max_records: int) -> list[LogRecord]:
        """The next records; see `LogReader`."""
        deadline = time.monotonic() + timeout_s
        ends: Mapping[int, int] | None = None
        while True:
            for partition in self._inbox.waiting_for_start():
                self._inbox.start(partition, self._start(partition))
            if records := self._inbox.take(max_records):
                return records
            self._member.check()
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                if ends is None:
                    ends = self._ends()
                if self._has_reached(ends):
                    return self._inbox.take(max_records)  # what came since, if any did
                if remaining_s < -CATCH_UP_S:
                    raise LogUnavailable(f"can't read: nothing came within {CATCH_UP_S:g} s")
                remaining_s = POLL_MS / 1000
            with self._inbox.changed:
                self._inbox.changed.wait_for(self._inbox.wants_attention, remaining_s)

    def restart(self, partition: int) -> None:
        """Go on where the partition's start is by now, if it is still this member's."""
        self._inbox.start(partition, self._start(partition))

    def close(self) -> None:
        """Leave the group; a second time does nothing."""
        self._member.close()

    def _has_reached(self, ends: Mapping[int, int]) -> bool:
        view = self._inbox.view()
        return view.is_settled and all(
            position >= ends[partition] for partition, position in view.positions.items()
        )


class _Member(threading.Thread):
    """The thread that polls; nothing but the listener touches its KafkaConsumer besides."""

    def __init__(self, brokers: str, topic: str, inbox: Inbox) -> None:
        super().__init__(name="kafka-poll", daemon=True)
        self._topic = topic
        self._inbox = inbox
        self._is_closing = threading.Event()
        self._error: KafkaError | None = None
        self._assignor = CooperativeStickyAssignor()
        self._kafka = open_client(
            KafkaConsumer,
            brokers,
            group_id=topic,
            enable_auto_commit=False,
            auto_offset_reset="none",
            partition_assignment_strategy=[self._assignor],
            session_timeout_ms=SESSION_TIMEOUT_MS,
            request_timeout_ms=ANSWER_MS,
            fetch_max_bytes=8 << 20,
            max_partition_fetch_bytes=2 << 20,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def run(self) -> None:
        """Poll until closed, or until an error that polling again does not mend."""
        listener = _Listener(self._kafka, self._inbox, self._assignor)
        try:
            # Else a member that joins first may share out a topic that it knows no partition of.
            self._kafka.partitions_for_topic(self._topic)
            self._kafka.subscribe([self._topic], listener=listener)
            while not self._is_closing.is_set():
                self._poll_once()
        except KafkaError as error:
            self._error = error
        finally:
            self._kafka.close(autocommit=False, timeout_ms=ANSWER_MS)

    def check(self) -> None:
        """Raise ReaderEnded if nothing comes any more."""
        if not self.is_alive():
            raise ReaderEnded(f"can't read: {self._error or 'the reader is closed'}")

    def close(self) -> None:
        """End the thread."""
        self._is_closing.set()
        self.join(CLOSE_WITHIN_S)

    def _poll_once(self) -> None:
        self._seek()
        self._let_flow()
        try:
            polled = self._kafka.poll(timeout_ms=POLL_MS)
        except OffsetOutOfRangeError as error:
            for partition, offset in error.args[0].items():
                self._find_again(partition, offset)
            return
        except LogTruncationError as error:
            for partition in error.divergent_offsets:
                self._find_again(partition, self._kafka.position(partition))
            return
        except NoOffsetForPartitionError:
            return  # its assignment is not told to the listener yet
        except KafkaError as error:
            if not error.retriable:
                raise
            self._is_closing.wait(RETRY_S)  # the brokers are away; the membership may outlive that
            return
        self._stay_member()
        self._inbox.put(
            LogRecord(record.partition, record.offset, record.value or b"")
            for records in polled.values()
            for record in records
        )

    def _stay_member(self) -> None:
        """Tell the inbox of a membership, and see a rebalance to its end.

        Where the reason for one goes away while it is under way (metadata that is as it was again),
        kafka-python 3.0.12 waits for it no more: without heartbeats, and as fast as it can loop.
        """
        state = self._kafka.group_metadata().state
        if state == MemberState.STABLE:
            self._inbox.join()
        elif state == MemberState.REBALANCING:
            self._kafka._coordinator.request_rejoin()

    def _seek(self) -> None:
        for partition, offset in self._inbox.seeks().items():
            with suppress(ValueError):  # it was revoked meanwhile
                self._kafka.seek(TopicPartition(self._topic, partition), offset)

    def _let_flow(self) -> None:
        wanted = {TopicPartition(self._topic, partition) for partition in self._inbox.flowing()}
        assigned, paused = self._kafka.assignment(), self._kafka.paused()
        with suppress(KeyError):  # one of them was revoked meanwhile
            self._kafka.pause(*(assigned - paused - wanted))
            self._kafka.resume(*(wanted & paused))

    def _find_again(self, partition: TopicPartition, offset: int) -> None:
        """Go to the oldest record that there is: what lies before it is lost, or was read."""
        [oldest] = self._kafka.beginning_offsets([partition], timeout_ms=ANSWER_MS).values()
        if offset < oldest:
            gap = LogRecord(partition.partition, oldest - 1, b"", lost_from=offset)
            log.error("records_lost", partition=gap.partition, first=offset, last=gap.offset)
            self._inbox.put([gap])
            with suppress(ValueError):
                self._kafka.seek(partition, oldest)
            return
        # Brokers that came back without what they had acknowledged, and was read.
        log.error("log_went_back", partition=partition.partition, offset=offset, oldest=oldest)
        self._inbox.start(partition.partition, oldest)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Told by kafka-python's own thread, so it waits for nothing."""

    def __init__(
        self, kafka: KafkaConsumer, inbox: Inbox, assignor: CooperativeStickyAssignor
    ) -> None:
        self._kafka = kafka
        self._inbox = inbox
        self._assignor = assignor

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Paused, and at any valid position, until the start is known."""
        for partition in assigned:
            self._kafka.pause(partition)
            self._kafka.seek(partition, 0)
        self._inbox.hold(partition.partition for partition in assigned)
        log.info("partitions_assigned", partitions=_numbers(assigned))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Another member's from now on; what it writes first makes ours fail."""
        self._inbox.release(partition.partition for partition in revoked)
        log.info("partitions_revoked", partitions=_numbers(revoked))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """The group went on without this member."""
        # Else it would claim them when it joins again, and nobody would get them in that round.
        self._assignor.member_assignment = None
        self.on_partitions_revoked(lost)


def _numbers(partitions: Iterable[TopicPartition]) -> list[int]:
    return sorted(partition.partition for partition in partitions)
