"""The run's journal: what happened, in order, carried to SQL by a thread of its own.

In: entries from the training thread, which never waits for them. Out: rows. Guaranteed: what the
database holds is always a prefix of what happened, for entries are committed in order and retried
until they are in; so after a crash a recorded step implies everything before it. A run that was
taken over writes nothing more. At 20 entries a transaction the write lock is held for 2 ms; after
an outage a transaction takes ten times as many, so that the run's rows catch up within seconds.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, Self

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.database import write
from trainer.journal.entries import Entry, StepTaken
from trainer.journal.lease import Lease, LeaseLost

log = structlog.get_logger()

BATCH_ENTRIES = 20
BACKLOG_BATCH_ENTRIES = 200  # where so many wait
REST_S = 0.12  # between those: others try for SQLite's lock every 0.1 s, and must get it
LINGER_S = 0.1  # steps gather this long, so that a 20 ms step does not pay a commit of its own
RETRY_S = 0.25
PATIENCE_S = 300.0  # of a run that has ended while the database is away
# A day at one step a second. Beyond it steps are kept without their metrics: lineage matters more.
MAX_BACKLOG = 100_000


class Watch(Protocol):
    """Who reads along; `trainer.health.watch.HealthWatch` is the real one."""

    def see(self, session: Session, run_id: str, entries: Sequence[Entry]) -> None:
        """Entries that were written in this transaction, which may be tried again."""


class Journal:
    """An ordered queue and its writer; close it to write what is left."""

    def __init__(self, engine: Engine, lease: Lease, watch: Watch | None = None) -> None:
        self._engine = engine
        self._lease = lease
        self._watch = watch
        self._entries: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._is_urgent = False
        self._is_closing = False
        self._closing_since = math.inf
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, *entries: Entry) -> None:
        """Add entries, in order, without waiting.

        Raises what stopped the writer, if anything did: LeaseLost, or an error of ours.
        """
        if self._failure is not None:
            raise self._failure
        if not entries:
            return
        with self._changed:
            is_first = not self._entries
            for entry in entries:
                self._entries.append(self._within_bounds(entry))
                self._is_urgent |= entry.is_urgent
            # Else the writer would wake up at every step, and the next one wait for it.
            if is_first or self._is_worth_a_commit():
                self._changed.notify_all()

    def _within_bounds(self, entry: Entry) -> Entry:
        if len(self._entries) < MAX_BACKLOG or not isinstance(entry, StepTaken):
            return entry
        if len(self._entries) == MAX_BACKLOG:
            log.warning("metrics_dropped", num_waiting=MAX_BACKLOG)
        return replace(entry, has_metrics=False)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything added so far is committed; False when the time was too short."""
        with self._changed:
            self._is_urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(self._is_done, timeout_s) and self._failure is None

    def close(self) -> None:
        """Write what is left and end the thread; an outage is waited out for PATIENCE_S."""
        with self._changed:
            self._is_closing = True
            self._closing_since = time.monotonic()
            self._changed.notify_all()
        self._thread.join()
        if self._entries:
            log.error("journal_incomplete", num_unwritten=len(self._entries))

    def _is_done(self) -> bool:
        return not self._entries or self._failure is not None

    def _run(self) -> None:
        while self._wait_for_work():
            batch = self._next_batch()
            try:
                self._commit(batch)
            except OperationalError as error:
                if self._has_given_up():
                    return self._fail(error)
                self._wait_out(error)
            except LeaseLost as error:
                return self._fail(error)
            except Exception as error:
                log.exception("journal_failed", run_id=self._lease.run_id)
                return self._fail(error)
            else:
                self._remove(len(batch))
                if len(batch) > BATCH_ENTRIES:
                    time.sleep(REST_S)
        return None

    def _next_batch(self) -> list[Entry]:
        waiting = len(self._entries)
        is_behind = waiting >= BACKLOG_BATCH_ENTRIES
        count = BACKLOG_BATCH_ENTRIES if is_behind else min(BATCH_ENTRIES, waiting)
        return [self._entries[i] for i in range(count)]

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._is_closing)
            if not self._entries:
                return False
            self._changed.wait_for(self._is_worth_a_commit, LINGER_S)
            return True

    def _is_worth_a_commit(self) -> bool:
        return self._is_urgent or self._is_closing or len(self._entries) >= BATCH_ENTRIES

    def _commit(self, batch: list[Entry]) -> None:
        with write(self._engine) as session:
            self._lease.assert_held(session)
            for entry in batch:
                entry.write(session, self._lease.run_id)
            if self._watch is not None:
                self._watch.see(session, self._lease.run_id, batch)

    def _remove(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._entries.popleft()
            self._is_urgent = any(entry.is_urgent for entry in self._entries)
            self._changed.notify_all()

    def _wait_out(self, error: OperationalError) -> None:
        log.warning("journal_delayed", num_waiting=len(self._entries), reason=str(error.orig))
        time.sleep(RETRY_S)

    def _has_given_up(self) -> bool:
        return self._is_closing and time.monotonic() - self._closing_since > PATIENCE_S

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
