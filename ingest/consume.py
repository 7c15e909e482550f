"""The consumer: log records become rows, sessions are cut, documents become samples.

In: records of the event log from the committed offsets on. Out: events, sessions, dead letters, and
what follows from them at once: episodes to replay (`cut`), documents in the buffer (`documents`).
Guaranteed: the rows and the offset behind them are one transaction, and the offset moves by
compare-and-set: after a crash anywhere a record is taken again as a whole or not at all, and a
consumer that another one overtook changes nothing (`Overtaken`).
Decision: 500 events or one record a transaction, whichever is more: one fsync, and about 20 ms of
the write lock.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Self

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ingest.cut import cut_dirty, settle_open_tails
from ingest.database import open_engine, write
from ingest.documents import place_documents
from ingest.envelope import Envelope, Unreadable
from ingest.event_rows import store, unfold
from ingest.log import EventLog, LogReader, LogRecord, LogUnavailable, open_log
from ingest.process import begin_process
from ingest.settings import Settings
from ingest.tables import LogOffset

EVENTS_PER_TRANSACTION = 500
RECORDS_PER_POLL = 200
POLL_S = 0.25
CUT_EVERY_S = 1.0  # while records keep coming
TRIM_EVERY_S = 60.0
BACKOFF_S = 1.0

log = structlog.get_logger()


class Overtaken(Exception):
    """Another consumer moved the offset; what this one read is already rows."""


class Consumer:
    """Reads one log into one database; for one thread."""

    def __init__(self, engine: Engine, event_log: EventLog, settings: Settings) -> None:
        """Start at the committed offsets; raises LogUnavailable or sqlalchemy's DBAPIError."""
        self._engine = engine
        self._log = event_log
        self._settings = settings
        self._next = _committed_offsets(engine, event_log)
        self._reader: LogReader = event_log.reader(self._next.__getitem__)
        self._cut_at = self._trim_at = self._place_from = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def step(self, timeout_s: float) -> int:
        """Take what the log has, and do what is due; returns how many records came.

        Raises LogUnavailable, DBAPIError or Overtaken; then this consumer must be made anew.
        """
        records = self._reader.poll(timeout_s, RECORDS_PER_POLL)
        for batch, envelopes in _batches(records):
            self._store(batch, envelopes)
        now = time.monotonic()
        if not records or now - self._cut_at > CUT_EVERY_S:
            cut_dirty(self._engine, self._settings)
            settle_open_tails(self._engine, self._settings, now=time.time())
            self._place_documents()
            self._cut_at = now
        if now - self._trim_at > TRIM_EVERY_S:
            self._log.trim(self._next, self._settings.log_grace_s)
            self._trim_at = now
        return len(records)

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
            place_documents(self._engine, self._settings.shards_path)
        except OSError as error:
            log.warning("documents_wait", reason=str(error), retry_s=BACKOFF_S)
            self._place_from = time.monotonic() + BACKOFF_S

    def _store(self, records: Sequence[LogRecord], envelopes: Sequence[Envelope]) -> None:
        reached = {record.partition: record.offset + 1 for record in records}
        delivery = unfold(envelopes)
        with write(self._engine) as session:
            for partition, next_offset in reached.items():
                _move_offset(
                    session, self._log.log_id, partition, self._next[partition], next_offset
                )
            stored = store(session, delivery, eval_percent=self._settings.eval_percent)
        self._next.update(reached)
        log.info("records_consumed", num_records=len(records), **vars(stored))


def run(settings: Settings, stop: threading.Event) -> None:
    """Consume until told to stop; what fails is tried again from the committed offsets."""
    engine = open_engine(settings.resolved_database_url)
    while not stop.is_set():
        try:
            with open_log(settings) as event_log, Consumer(engine, event_log, settings) as consumer:
                log.info("consumer_started", log_id=event_log.log_id)
                num_records = 0
                while not stop.is_set():
                    num_records = consumer.step(0 if num_records else POLL_S)
        except (LogUnavailable, DBAPIError, Overtaken) as error:
            log.warning("consumer_interrupted", error=str(error), retry_s=BACKOFF_S)
            stop.wait(BACKOFF_S)
    engine.dispose()
    log.info("consumer_stopped")


def main() -> None:
    """Run as a process until SIGTERM or SIGINT."""
    stop = begin_process()
    run(Settings(), stop)


def _committed_offsets(engine: Engine, event_log: EventLog) -> dict[int, int]:
    with write(engine) as session:
        rows = session.scalars(select(LogOffset).where(LogOffset.log_id == event_log.log_id))
        known = {row.partition: row.next_offset for row in rows}
        missing = [
            {"log_id": event_log.log_id, "partition": partition, "next_offset": 0}
            for partition in range(event_log.num_partitions)
            if partition not in known
        ]
        if missing:
            session.execute(insert(LogOffset), missing)
    return {partition: known.get(partition, 0) for partition in range(event_log.num_partitions)}


def _move_offset(session: Session, log_id: str, partition: int, old: int, new: int) -> None:
    moved = session.execute(
        update(LogOffset)
        .where(
            LogOffset.log_id == log_id,
            LogOffset.partition == partition,
            LogOffset.next_offset == old,
        )
        .values(next_offset=new)
        .returning(LogOffset.partition)
    ).all()
    if not moved:
        raise Overtaken(f"partition {partition} of the event log moved on from offset {old}")


def _batches(
    records: Sequence[LogRecord],
) -> Iterator[tuple[list[LogRecord], list[Envelope]]]:
    batch: list[LogRecord] = []
    envelopes: list[Envelope] = []
    num_events = 0
    for record in records:
        envelope = _unpack(record)
        if batch and num_events + len(envelope.events) > EVENTS_PER_TRANSACTION:
            yield batch, envelopes
            batch, envelopes, num_events = [], [], 0
        batch.append(record)
        envelopes.append(envelope)
        num_events += len(envelope.events)
    if batch:
        yield batch, envelopes


def _unpack(record: LogRecord) -> Envelope:
    try:
        return Envelope.unpack(record.value)
    except ValidationError as error:
        dead = Unreadable(
            code="unreadable_record",
            detail=f"{record.partition}/{record.offset}: {error.errors()[0]['msg']}",
            original=record.value,
        )
        return Envelope(source="unknown", received_at=time.time(), events=[], unreadable=[dead])


if __name__ == "__main__":
    main()
