"""The event log in one SQLite file: WAL mode, synchronous=FULL, several processes at once.

In: records from the request threads. Out: the same, by offset, to readers in any process.
Guaranteed: `append` returns after the fsync; offsets grow in commit order over all partitions, and
AUTOINCREMENT keeps a trimmed one from coming back.
Decision: a group commit. Whoever gets the write lock commits what all threads have queued by then,
so 40 requests at once share one fsync (about 1 ms on an SSD, 10 on a disk) instead of queueing 40.
"""

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import structlog

from ingest.database.wal import truncate_wal
from ingest.log.interface import LogRecord, LogUnavailable, NewRecord

BUSY_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.02
MAX_POLL_BYTES = 8 << 20
TRIM_ROWS = 200
REWRITE_ROWS = 50

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS log (log_id TEXT NOT NULL, num_partitions INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS records (
        offset INTEGER PRIMARY KEY AUTOINCREMENT,
        partition INTEGER NOT NULL,
        appended_at REAL NOT NULL,
        value BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS records_by_partition ON records (partition, offset)",
)

log = structlog.get_logger()


class _Pending:
    """One append on its way through a group commit."""

    def __init__(self, records: Sequence[NewRecord]) -> None:
        self.records = records
        self.is_taken = False
        self.is_durable = False
        self.error: sqlite3.Error | None = None


class EmbeddedLog:
    """An `EventLog` in a file of its own."""

    def __init__(
        self, path: Path, *, num_partitions: int, busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> None:
        """Open the log, or make it with so many partitions; raises LogUnavailable."""
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._queue: list[_Pending] = []
        self._queue_lock = threading.Lock()
        self._write_lock = threading.Lock()
        with _unavailable("open"):
            self._connection = _connect(path, busy_timeout_s)
            self.log_id, self.num_partitions = _ensure_schema(self._connection, num_partitions)
        if self.num_partitions != num_partitions:
            log.warning(
                "setting_ignored",
                setting="STOVETOP_NUM_PARTITIONS",
                value=num_partitions,
                kept=self.num_partitions,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def append(self, records: Sequence[NewRecord]) -> None:
        """Keep all records or none; durable on return. Raises LogUnavailable."""
        if any(not 0 <= record.partition < self.num_partitions for record in records):
            raise ValueError(f"partition: must be from 0 to {self.num_partitions - 1}")
        pending = _Pending(records)
        with self._queue_lock:
            self._queue.append(pending)
        with self._write_lock:
            if not pending.is_taken:
                self._commit_queue()
        if not pending.is_durable:
            raise LogUnavailable(_reason("append", pending.error)) from pending.error

    def reader(self, start: Callable[[int], int]) -> "EmbeddedReader":
        """Read every partition from the offset that `start(partition)` gives."""
        return EmbeddedReader(self._path, start, self.num_partitions, self._busy_timeout_s)

    def num_waiting(self, offsets: Mapping[int, int]) -> int:
        """How many records are at these offsets or after them; raises LogUnavailable."""
        query = "SELECT count(*) FROM records WHERE partition = ? AND offset >= ?"
        with self._write_lock, _unavailable("count"):
            return sum(
                self._connection.execute(query, item).fetchone()[0] for item in offsets.items()
            )

    def trim(self, before: Mapping[int, int], grace_s: float) -> int:
        """Drop records below these offsets that are older than the grace; returns how many."""
        oldest_kept = time.time() - grace_s
        return sum(
            self._trim_partition(partition, offset, oldest_kept)
            for partition, offset in before.items()
        )

    def rewrite(self, change: Callable[[bytes], bytes]) -> float | None:
        """See `EventLog`; a few records a transaction, each overwritten in its place."""
        last = 0
        while rows := self._rows_after(last):
            offsets = [offset for offset, value in rows if change(value) != value]
            if offsets:
                self._replace(offsets, change)
            last = rows[-1][0]
        with self._write_lock, _unavailable("rewrite"):
            truncate_wal(self._connection, self._busy_timeout_s)
        return None

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        with self._write_lock:
            self._connection.close()

    def _commit_queue(self) -> None:
        with self._queue_lock:
            group, self._queue = self._queue, []
        for pending in group:
            pending.is_taken = True
        now = time.time()
        rows = [
            (record.partition, now, record.value) for pending in group for record in pending.records
        ]
        try:
            with _transaction(self._connection):
                self._connection.executemany(
                    "INSERT INTO records (partition, appended_at, value) VALUES (?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            for pending in group:
                pending.error = error
            return
        for pending in group:
            pending.is_durable = True

    def _rows_after(self, last: int) -> list[tuple[int, bytes]]:
        query = "SELECT offset, value FROM records WHERE offset > ? ORDER BY offset LIMIT ?"
        with self._write_lock, _unavailable("read"):
            return self._connection.execute(query, (last, REWRITE_ROWS)).fetchall()

    def _replace(self, offsets: Sequence[int], change: Callable[[bytes], bytes]) -> None:
        """Read again under the lock: another process may have replaced them meanwhile."""
        with self._write_lock, _unavailable("rewrite"), _transaction(self._connection):
            for offset in offsets:
                found = self._connection.execute(
                    "SELECT value FROM records WHERE offset = ?", (offset,)
                ).fetchone()
                if found is not None:
                    self._connection.execute(
                        "UPDATE records SET value = ? WHERE offset = ?", (change(found[0]), offset)
                    )

    def _trim_partition(self, partition: int, before: int, oldest_kept: float) -> int:
        num_trimmed = 0
        while True:
            with self._write_lock, _unavailable("trim"), _transaction(self._connection):
                num_deleted = self._connection.execute(
                    "DELETE FROM records WHERE offset IN (SELECT offset FROM records"
                    " WHERE partition = ? AND offset < ? AND appended_at <= ? LIMIT ?)",
                    (partition, before, oldest_kept, TRIM_ROWS),
                ).rowcount
            num_trimmed += num_deleted
            if num_deleted < TRIM_ROWS:
                return num_trimmed


class EmbeddedReader:
    """A `LogReader` with a connection of its own; for one thread."""

    def __init__(
        self,
        path: Path,
        start: Callable[[int], int],
        num_partitions: int,
        busy_timeout_s: float,
    ) -> None:
        """Find the first unread record; raises LogUnavailable."""
        self._start = start
        self._wanted = {partition: start(partition) for partition in range(num_partitions)}
        with _unavailable("open"):
            self._connection = _connect(path, busy_timeout_s)
            self._next_offset = self._first_unread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def poll(self, timeout_s: float, max_records: int) -> list[LogRecord]:
        """The next records, waiting for the first at most `timeout_s`; raises LogUnavailable."""
        deadline = time.monotonic() + timeout_s
        while True:
            with _unavailable("read"):
                records = self._fetch(max_records)
            remaining_s = deadline - time.monotonic()
            if records or remaining_s <= 0:
                return records
            time.sleep(min(POLL_INTERVAL_S, remaining_s))

    def restart(self, partition: int) -> None:
        """Go on where the partition's start is by now, be that ahead of or behind this reader."""
        self._wanted[partition] = self._start(partition)
        self._next_offset = min(self._next_offset, self._wanted[partition])

    def close(self) -> None:
        """Close the reader's connection; a second time does nothing."""
        self._connection.close()

    def _fetch(self, max_records: int) -> list[LogRecord]:
        rows = self._connection.execute(
            "SELECT partition, offset, value FROM records WHERE offset >= ? ORDER BY offset",
            (self._next_offset,),
        )
        records: list[LogRecord] = []
        num_bytes = 0
        for partition, offset, value in rows:
            self._next_offset = offset + 1
            if offset < self._wanted[partition]:
                continue
            self._wanted[partition] = offset + 1
            records.append(LogRecord(partition, offset, value))
            num_bytes += len(value)
            if len(records) >= max_records or num_bytes >= MAX_POLL_BYTES:
                break
        rows.close()  # an unfinished read would keep the WAL from being reused
        return records

    def _first_unread(self) -> int:
        """The smallest offset that any partition still wants: one look into the index for each."""
        with _transaction(self._connection, "BEGIN"):
            firsts = [
                self._connection.execute(
                    "SELECT min(offset) FROM records WHERE partition = ? AND offset >= ?",
                    (partition, start),
                ).fetchone()[0]
                for partition, start in self._wanted.items()
            ]
            newest = self._connection.execute("SELECT max(offset) FROM records").fetchone()[0]
        return min((first for first in firsts if first is not None), default=(newest or 0) + 1)


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")  # 10 ms a MB that is trimmed in place of 2
    return connection


def _ensure_schema(connection: sqlite3.Connection, num_partitions: int) -> tuple[str, int]:
    with _transaction(connection):
        for statement in SCHEMA:
            connection.execute(statement)
        row = connection.execute("SELECT log_id, num_partitions FROM log").fetchone()
        if row is None:
            row = (uuid.uuid4().hex, num_partitions)
            connection.execute("INSERT INTO log VALUES (?, ?)", row)
    log_id, kept = row
    return str(log_id), int(kept)


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _unavailable(doing: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LogUnavailable(_reason(doing, error)) from error


def _reason(doing: str, error: sqlite3.Error | None) -> str:
    return f"can't {doing}: {error or 'the write was interrupted'}"
