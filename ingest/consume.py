"""The consumer: log records become rows, sessions are cut, documents become samples.

In: records of the event log from the committed offsets on. Out: events, sessions, dead letters, and
what follows from them at once: episodes to replay (`cut`), documents in the buffer (`documents`).
Guaranteed: the rows and the offset behind them are one transaction, and the offset moves by
compare-and-set: after a crash anywhere a record is taken again as a whole or not at all, and of
two consumers that both believe a partition theirs only one brings its rows in; the other drops its
own and goes on where the offset is by then. What the log lost is a dead letter.
Decision: 1,000 events or one record a transaction, whichever is more: one fsync, and about 20 ms of
the write lock.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine, and_, case, or_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ingest.cut import cut_dirty, settle_open_tails
from ingest.database import open_engine, write
from ingest.documents import place_documents
from ingest.envelope import Envelope, Origin, Unreadable
from ingest.event_rows import store, unfold
from ingest.log import EventLog, LogReader, LogRecord, LogUnavailable, ReaderEnded, open_log
from ingest.process import begin_process, look_rarely_for_garbage
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.tables import LogOffset

EVENTS_PER_TRANSACTION = 1_000
RECORDS_PER_POLL = 200
POLL_S = 0.25
CUT_EVERY_S = 1.0  # while records keep coming
CUT_REST = 4.0  # times what the cut took: each looks at whole sessions, so a flood has few of them
TRIM_EVERY_S = 60.0
BACKOFF_S = 1.0

log = structlog.get_logger()


class Overtaken(Exception):
    """Another consumer moved a partition's offset; what this one read of it is already rows."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(f"partition {partition} of the event log moved on from offset {offset}")
        self.partition = partition


class _Unpacked(NamedTuple):
    record: LogRecord
    envelope: Envelope


class Consumer:
    """Reads its share of one log into one database; for one thread."""

    def __init__(self, engine: Engine, event_log: EventLog, settings: Settings) -> None:
        """Start at the committed offsets; raises LogUnavailable or sqlalchemy's DBAPIError."""
        self._engine = engine
        self._log = event_log
        self._settings = settings
        self._shards = open_store(settings)
        self._next: dict[int, int] = {}
        self._unstored: list[_Unpacked] = []
        self._reader: LogReader = event_log.reader(self._committed_offset)
        self._cut_from = self._trim_at = self._place_from = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def step(self, timeout_s: float) -> int:
        """Take what the log has, and do what is due; returns how many records came.

        Raises DBAPIError or LogUnavailable, after which the same may be tried again, or
        ReaderEnded, after which this consumer must be made anew.
        """
        if not self._unstored:
            polled = self._reader.poll(timeout_s, RECORDS_PER_POLL)
            self._unstored = [_Unpacked(record, _unpack(record)) for record in polled]
        num_records = len(self._unstored)
        while self._unstored:
            self._store_some()
        now = time.monotonic()
        if not num_records or now > self._cut_from:
            cut_dirty(self._engine, self._settings)
            settle_open_tails(self._engine, self._settings, now=time.time())
            self._place_documents()
            done = time.monotonic()
            self._cut_from = done + max(CUT_EVERY_S, CUT_REST * (done - now))
        if now - self._trim_at > TRIM_EVERY_S:
            self._log.trim(self._next, self._settings.log_grace_s)
            self._trim_at = now
        return num_records

    def drain(self) -> None:
        """Take all that the log has by now, cut it, and place the documents."""
        while self.step(timeout_s=0):
            pass

    def close(self) -> None:
        """Close the reader; the log and the database are the caller's."""
        self._reader.close()

    def _place_documents(self) -> None:
        """A disk that takes no shard holds up documents alone; they wait as events."""
        if time.monotonic() < self._place_from:
            return
        try:
            place_documents(self._engine, self._shards)
        except OSError as error:
            log.warning("documents_wait", reason=str(error), retry_s=BACKOFF_S)
            self._place_from = time.monotonic() + BACKOFF_S

    def _store_some(self) -> None:
        """Store the first of what was read, as much as goes into one transaction."""
        batch = _first_batch(self._unstored)
        try:
            self._store(batch)
        except Overtaken as overtaken:
            gone = overtaken.partition
            log.info("consumer_overtaken", partition=gone)
            self._unstored = [each for each in self._unstored if each.record.partition != gone]
            self._reader.restart(gone)
        else:
            self._unstored = self._unstored[len(batch) :]

    def _store(self, batch: Sequence[_Unpacked]) -> None:
        reached = {record.partition: record.offset + 1 for record, _ in batch}
        delivery = unfold([envelope for _, envelope in batch])
        with write(self._engine) as session:
            _move_offsets(session, self._log.log_id, self._next, reached)
            stored = store(session, delivery, eval_percent=self._settings.eval_percent)
        self._next.update(reached)
        log.info("records_consumed", num_records=len(batch), **vars(stored))

    def _committed_offset(self, partition: int) -> int:
        """Where SQL says that this partition goes on; remembered as what is to be moved."""
        with write(self._engine) as session:
            self._next[partition] = _known_offset(session, self._log.log_id, partition)
        return self._next[partition]


def run(settings: Settings, stop: threading.Event) -> None:
    """Consume until told to stop; what fails is tried again from the committed offsets."""
    engine = open_engine(settings.resolved_database_url)
    while not stop.is_set():
        try:
            with open_log(settings) as event_log, Consumer(engine, event_log, settings) as consumer:
                log.info("consumer_started", log_id=event_log.log_id)
                _consume(consumer, stop)
        except (LogUnavailable, DBAPIError) as error:
            log.warning("consumer_interrupted", error=str(error), retry_s=BACKOFF_S)
            stop.wait(BACKOFF_S)
    engine.dispose()
    log.info("consumer_stopped")


def _consume(consumer: Consumer, stop: threading.Event) -> None:
    """Step until told to stop; an outage costs neither the reader nor what it has read."""
    num_records = 0
    while not stop.is_set():
        try:
            num_records = consumer.step(0 if num_records else POLL_S)
        except ReaderEnded:
            raise
        except (LogUnavailable, DBAPIError) as error:
            log.warning("consumer_waits", error=str(error), retry_s=BACKOFF_S)
            stop.wait(BACKOFF_S)


def main() -> None:
    """Run as a process until SIGTERM or SIGINT."""
    look_rarely_for_garbage()
    settings = Settings()
    run(settings, begin_process(settings))


def _known_offset(session: Session, log_id: str, partition: int) -> int:
    """The committed offset; a partition that was never read begins at 0."""
    key = (LogOffset.log_id == log_id, LogOffset.partition == partition)
    known = session.scalar(select(LogOffset.next_offset).where(*key))
    if known is not None:
        return known
    session.add(LogOffset(log_id=log_id, partition=partition, next_offset=0))
    return 0


def _move_offsets(
    session: Session, log_id: str, present: Mapping[int, int], reached: Mapping[int, int]
) -> None:
    """Move partitions on from where this consumer believes them to be; raises Overtaken."""
    is_there = or_(
        *(
            and_(LogOffset.partition == partition, LogOffset.next_offset == present[partition])
            for partition in reached
        )
    )
    moved = session.scalars(
        update(LogOffset)
        .where(LogOffset.log_id == log_id, is_there)
        .values(next_offset=case(dict(reached), value=LogOffset.partition))
        .returning(LogOffset.partition)
        .execution_options(synchronize_session=False)
    )
    for partition in sorted(reached.keys() - set(moved)):
        raise Overtaken(partition, present[partition])


def _first_batch(unstored: Sequence[_Unpacked]) -> Sequence[_Unpacked]:
    num_events = 0
    for index, (_, envelope) in enumerate(unstored):
        num_events += len(envelope.events)
        if index and num_events > EVENTS_PER_TRANSACTION:
            return unstored[:index]
    return unstored


def _unpack(record: LogRecord) -> Envelope:
    if record.lost_from is not None:
        return _gap(record, record.lost_from)
    try:
        return Envelope.unpack(record.value)
    except ValidationError as error:
        dead = Unreadable(
            code="unreadable_record",
            detail=f"{record.partition}/{record.offset}: {error.errors()[0]['msg']}",
            original=record.value,
        )
        return _of_nobody(dead)


def _gap(record: LogRecord, first: int) -> Envelope:
    where = f"partition {record.partition}, offsets {first} to {record.offset}"
    dead = Unreadable(
        code="lost_to_retention",
        detail=f"{where}: dropped by the event log before they were consumed",
        original=where.encode(),
    )
    return _of_nobody(dead)


def _of_nobody(dead: Unreadable) -> Envelope:
    return Envelope(Origin(source="unknown", received_at=time.time()), [], [dead])


if __name__ == "__main__":
    main()
