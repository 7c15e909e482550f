"""The databases that tests run on: which test on which, and how to trouble one.

The rule: a test with an installation of its own runs on SQLite and on PostgreSQL. The exceptions
are `LONG`, modules that train a model for real, start whole processes or try thousands of cases:
these run on SQLite, and on PostgreSQL only the tests of them that are `CHOSEN`. So there a run's
start, commands, outages and end are tested (`trainer/run/test_boundary.py`, `test_training.py`), a
rollback, a crash with its resume, and a whole machine; several ranks and one's own Trainer are not.
What is `OF_SQLITE` tests its file.
"""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from psycopg.errors import DeadlockDetected
from sqlalchemy import Connection, MetaData, create_engine
from sqlalchemy.exc import OperationalError

from tests.postgres import Cluster

SQLITE, POSTGRESQL = "sqlite", "postgresql"

READY_WITHIN_S = 60.0
_SCHEMA = (
    "SELECT version_num || ', tables: ' || "
    "(SELECT count(*) FROM pg_tables WHERE schemaname = 'public') FROM alembic_version"
)

LONG = frozenset(
    {
        "control_api/agent/test_dialogue.py",
        "control_api/agent/test_look.py",
        "control_api/agent/test_steer.py",
        "control_api/backup/test_backup.py",
        "control_api/test_bad_commands.py",
        "control_api/test_burst.py",
        "control_api/test_killed.py",
        "control_api/test_schema.py",
        "control_api/test_supervise.py",
        "ingest/test_client_host.py",
        "ingest/test_client_spool.py",
        "ingest/test_fuzz.py",
        "ingest/integrity/test_repair.py",
        "trainer/causal_lm/test_family.py",
        "trainer/checkpoints/test_retention.py",
        "trainer/health/test_rescue.py",
        "trainer/health/test_run.py",
        "trainer/run/test_crash.py",
        "trainer/run/test_limit.py",
        "trainer/run/test_outage.py",
        "trainer/run/test_rollback.py",
        "trainer/run/test_run.py",
        "trainer/run/test_saving.py",
        "trainer/run/test_tuning.py",
        "trainer/test_interactive.py",
        "trainer/test_interactive_gpt2.py",
    }
)
OF_SQLITE = frozenset(
    {
        "ingest/test_database.py::test_a_file_that_has_gone_away_is_an_error_and_none_is_made_in_its_place",
    }
)
CHOSEN = frozenset(
    {
        "control_api/backup/test_backup.py::test_a_backup_under_load_holds_what_was_acknowledged_before_it_once",
        "control_api/backup/test_backup.py::test_a_restored_installation_is_the_same_to_the_bit_and_goes_on",
        "control_api/backup/test_backup.py::test_nothing_is_restored_over_something",
        "control_api/test_supervise.py::test_an_event_that_was_acknowledged_is_consumed",
        "control_api/test_supervise.py::test_a_kill_9_takes_all_along_and_the_next_up_goes_on",
        "ingest/integrity/test_repair.py::test_a_damaged_file_is_named_and_made_anew_bit_for_bit",
        "ingest/integrity/test_repair.py::test_a_row_that_names_another_samples_bytes_is_found_and_mended",
        "ingest/integrity/test_repair.py::test_nothing_is_found_while_everything_works",
        "ingest/integrity/test_repair.py::test_samples_that_lost_their_places_get_them_again",
        "trainer/run/test_crash.py::test_the_recorded_steps_are_taken_again_bit_for_bit",
        "trainer/run/test_rollback.py::test_with_held_data_everything_repeats_bit_for_bit",
        "trainer/run/test_rollback.py::test_the_tip_is_saved_first_so_that_a_rollback_can_be_undone",
    }
)


def databases_of(module: str, test: str) -> list[str]:
    """What a test runs on; `module` is its file's path from `tests/` on."""
    name = f"{module}::{test}"
    if name in OF_SQLITE or (module in LONG and name not in CHOSEN):
        return [SQLITE]
    return [SQLITE, POSTGRESQL]


class Database(Protocol):
    """One test's own database, at the newest schema."""

    url: str

    def locked(self) -> AbstractContextManager[None]:
        """Somebody else writes, all the time; reading is free."""

    def away(self) -> AbstractContextManager[None]:
        """Nobody reaches it; open connections break."""


class SqliteDatabase:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See `Database`."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    @contextmanager
    def away(self) -> Iterator[None]:
        """See `Database`; who has the file open keeps it."""
        elsewhere = self._path.with_name("elsewhere.db")
        self._path.rename(elsewhere)
        self._path.mkdir()  # nobody can open it now
        yield
        self._path.rmdir()
        elsewhere.rename(self._path)


class Stock:
    """Databases of a cluster, equal to a template: made once, and emptied after each test.

    That is done while the next test runs on another one.
    """

    def __init__(self, cluster: Cluster, template: str) -> None:
        self._cluster = cluster
        self._template = template
        self._numbers = count(1)
        self._ready: SimpleQueue[str] = SimpleQueue()
        self._worker = ThreadPoolExecutor(max_workers=1)
        for _ in range(2):
            self._worker.submit(self._make)

    @contextmanager
    def database(self) -> Iterator["PostgresDatabase"]:
        """One for a test."""
        name = self._ready.get(timeout=READY_WITHIN_S)
        yield PostgresDatabase(self._cluster, name)
        self._worker.submit(self._renew, name)

    def close(self) -> None:
        """Make no more."""
        self._worker.shutdown()

    def _make(self) -> None:
        name = f"test_{next(self._numbers)}"
        self._cluster.create(name, self._template)
        self._ready.put(name)

    def _renew(self, name: str) -> None:
        if self._cluster.value(name, _SCHEMA) != self._cluster.value(self._template, _SCHEMA):
            self._make()
            return
        self._cluster.empty(name, keeping="alembic_version")
        self._ready.put(name)


def _lock(connection: Connection, tables: str) -> None:
    """Lock them, one after the other; where a writer has done so in another order, once more."""
    while True:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"LOCK TABLE {tables} IN EXCLUSIVE MODE")
        except OperationalError as error:
            if not isinstance(error.orig, DeadlockDetected):
                raise
        else:
            return


class PostgresDatabase:
    """A database of the tests' cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.url = cluster.url(name)
        self._cluster = cluster
        self._name = name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See `Database`."""
        engine = create_engine(self.url)
        with engine.begin() as connection:
            metadata = MetaData()
            metadata.reflect(connection)
            _lock(connection, ", ".join(metadata.tables))
            yield
        engine.dispose()

    def away(self) -> AbstractContextManager[None]:
        """See `Database`."""
        return self._cluster.closed(self._name)

    def written_anew(self) -> list[Path]:
        """The database's files, after an administrator has had every table written anew."""
        return self._cluster.vacuumed(self._name)

    def frozen(self) -> AbstractContextManager[None]:
        """The server neither answers nor hangs up to those who are connected."""
        return self._cluster.frozen(self._name)
