"""SQLite: WAL mode, one writer at a time, any number of readers who never wait.

Decision: a writer takes the lock at BEGIN, so that two of them queue instead of failing half way.
Whatever else would keep writers apart has then nothing to do. Only a migration makes the file: one
that has gone away is an error, which passes, and never an empty database.
"""

import sqlite3
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event

from ingest.database.lookout import Unreachable

LOOK_EVERY_S = 0.025


def open_engine(url: URL, *, busy_timeout_s: float) -> Engine:
    """See `Dialect`."""
    engine = create_engine(url, creator=partial(_connect, _path(url), busy_timeout_s))
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _connect(path: str, busy_timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(path)}?mode=rw",
        uri=True,
        timeout=busy_timeout_s,
        check_same_thread=False,
    )


def _path(url: URL) -> str:
    assert url.database is not None, "a database in memory has no second process"
    return url.database


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own implicit BEGIN would start a deferred transaction; _begin decides.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("stovetop_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def writing(engine: Engine) -> Engine:
    """See `Dialect`."""
    return engine.execution_options(stovetop_write=True)


def reading(engine: Engine) -> Engine:
    """See `Dialect`."""
    return engine


def take_turn(_connection: Connection, _name: str) -> None:
    """See `Dialect`; a writer is alone."""


def make_place(url: URL) -> None:
    """See `Dialect`."""
    Path(_path(url)).touch()


def begin_migration(_connection: Connection) -> None:
    """See `Dialect`; a writer is alone."""


def announce(_connection: Connection, _channel: str, _word: str) -> None:
    """See `Dialect`; the file itself tells of commits."""


def open_lookout(engine: Engine, statement: str, _channel: str, _word: str) -> "SqliteLookout":
    """See `Dialect`."""
    return SqliteLookout(_path(engine.url), statement)


class SqliteLookout:
    """Asks `PRAGMA data_version` first, which changes with the commits of other connections.

    The WAL index's header would tell for less, but to close a file of SQLite's in its own process
    drops the locks that its connections hold (sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, path: str, statement: str) -> None:
        self._statement = statement
        self._blank_version = -1  # as of which the statement gave no row
        self._connection = sqlite3.connect(
            f"file:{quote(path)}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=0.0,
            check_same_thread=False,
        )

    def sees(self, *parameters: str | int) -> bool:
        """See `Lookout`."""
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._blank_version:
                return False
            # To SQLite, $1 is a name.
            named = {str(number): value for number, value in enumerate(parameters, 1)}
            sees = self._connection.execute(self._statement, named).fetchone() is not None
        except sqlite3.OperationalError as error:
            raise Unreachable(str(error)) from error
        if not sees:
            self._blank_version = version
        return sees

    def wait(self) -> None:
        """See `Lookout`."""
        time.sleep(LOOK_EVERY_S)

    def close(self) -> None:
        """See `Lookout`."""
        self._connection.close()
