"""The embedded log: the contract, and what only a file can suffer."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.log import EventLog, LogUnavailable, NewRecord
from ingest.log.embedded import EmbeddedLog
from tests.ingest.log.contract import NUM_PARTITIONS, LogContract, all_records
from tests.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


class TestEmbeddedLog(LogContract):
    @pytest.fixture
    def open_again(self, path: Path) -> Callable[[], EventLog]:
        return lambda: EmbeddedLog(path, num_partitions=NUM_PARTITIONS)


def test_the_number_of_partitions_is_fixed_when_the_log_is_made(path: Path) -> None:
    EmbeddedLog(path, num_partitions=2).close()
    with EmbeddedLog(path, num_partitions=5) as log:
        assert log.num_partitions == 2


def test_another_file_is_another_log(tmp_path: Path) -> None:
    with (
        EmbeddedLog(tmp_path / "a.db", num_partitions=1) as first,
        EmbeddedLog(tmp_path / "b.db", num_partitions=1) as second,
    ):
        assert first.log_id != second.log_id


def test_a_commit_is_synced(path: Path) -> None:
    with EmbeddedLog(path, num_partitions=1) as log:
        pragma = log._connection.execute
        assert pragma("PRAGMA synchronous").fetchone() == (2,)
        assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_locked_file_is_unavailable_and_then_available_again(path: Path) -> None:
    with EmbeddedLog(path, num_partitions=1, busy_timeout_s=0.01) as log:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match="locked"):
            log.append([NewRecord(0, b"x")])
        other.close()
        log.append([NewRecord(0, b"y")])
        assert [record.value for record in all_records(log)] == [b"y"]


def test_a_closed_log_is_unavailable(path: Path) -> None:
    log = EmbeddedLog(path, num_partitions=1)
    log.close()
    with pytest.raises(LogUnavailable):
        log.append([NewRecord(0, b"x")])


def test_a_file_that_is_no_database_is_unavailable(path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(LogUnavailable, match="can't open"):
        EmbeddedLog(path, num_partitions=1)


def test_a_full_disk_is_unavailable_and_loses_nothing_that_was_kept(path: Path) -> None:
    with EmbeddedLog(path, num_partitions=1) as log:
        log.append([NewRecord(0, b"kept")])
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from ingest.log import LogUnavailable, NewRecord\n"
        "from ingest.log.embedded import EmbeddedLog\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "with EmbeddedLog(Path(sys.argv[1]), num_partitions=1) as log:\n"
        "    try:\n"
        "        log.append([NewRecord(0, b'x' * 1_000_000)])\n"
        "    except LogUnavailable:\n"
        "        print('unavailable')\n"
    )
    limited = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert limited.stdout == "unavailable\n"
    with EmbeddedLog(path, num_partitions=1) as log:
        assert [record.value for record in all_records(log)] == [b"kept"]


def test_appends_that_wait_together_share_a_commit(path: Path) -> None:
    with EmbeddedLog(path, num_partitions=1) as log:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")  # holds the first commit until all have queued
        threads = [
            threading.Thread(target=log.append, args=[[NewRecord(0, b"%d" % n)]]) for n in range(20)
        ]
        threads[0].start()
        wait_until(lambda: log._write_lock.locked() and not log._queue)
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: len(log._queue) == 19)
        other.rollback()
        for thread in threads:
            thread.join()
        commits = other.execute(
            "SELECT count(*) FROM records GROUP BY appended_at ORDER BY appended_at"
        ).fetchall()
        other.close()
        assert commits == [(1,), (19,)]
