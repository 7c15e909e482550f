"""SQLite: WAL mode, one writer at a time, any number of readers who never wait.

Decision: a writer takes the lock at BEGIN, so that two of them queue instead of failing half way.
Whatever else would keep writers apart has then nothing to do. Only a migration makes the file: one
that has gone away is an error, which passes, and never an empty database.
"""

import shutil
import sqlite3
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

import orjson
from sqlalchemy import URL, ColumnElement, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from ingest.database.dumps import DumpFailed
from ingest.database.lookout import Unreachable
from ingest.database.wal import truncate_wal

LOOK_EVERY_S = 0.025
TRUNCATE_WITHIN_S = 5.0

_HEADER = b"SQLite format 3\x00"


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
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
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


def share_turn(_connection: Connection, _name: str) -> None:
    """See `Dialect`; a writer is alone."""


def erase_traces(engine: Engine) -> str | None:
    """See `Dialect`.

    `secure_delete` zeroes what is deleted, but rows that had moved to another page before may have
    left copies where no row points: only a file that is written anew holds nothing but rows.
    """
    connection = engine.raw_connection()
    try:
        own = connection.driver_connection
        assert isinstance(own, sqlite3.Connection)
        own.execute("VACUUM")
        truncate_wal(own, TRUNCATE_WITHIN_S)
    except sqlite3.OperationalError as error:
        raise OperationalError("VACUUM", None, error) from error
    finally:
        connection.close()
    return None


def is_among(column: InstrumentedAttribute[str], values: Collection[str]) -> ColumnElement[bool]:
    """See `Dialect`."""
    listed = text("SELECT value FROM json_each(:listed)")
    return column.in_(listed.bindparams(listed=orjson.dumps(list(values)).decode()))


def insert_rows(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """See `Dialect`."""
    marks = ", ".join("?" * len(names))
    columns = ", ".join(names)
    statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608  (ours)
    connection.exec_driver_sql(statement, list(rows))


def update_rows(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """See `Dialect`."""
    key, *changed = names
    changes = ", ".join(f"{name} = ?" for name in changed)
    statement = f"UPDATE {table.name} SET {changes} WHERE {key} = ?"  # noqa: S608  (ours)
    connection.exec_driver_sql(statement, [(*values, which) for which, *values in rows])


def make_place(url: URL) -> None:
    """See `Dialect`."""
    Path(_path(url)).touch()


def begin_migration(_connection: Connection) -> None:
    """See `Dialect`; a writer is alone."""


def announce(_connection: Connection, _channel: str, _word: str) -> None:
    """See `Dialect`; the file itself tells of commits."""


def dump(connection: Connection, path: Path) -> None:
    """See `Dialect`; all pages in one step, as of the transaction, so that no writer waits."""
    source = connection.connection.driver_connection
    assert isinstance(source, sqlite3.Connection)
    try:
        with closing(sqlite3.connect(path)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise DumpFailed(f"can't write {path}: {error}") from error


def is_empty(url: URL) -> bool:
    """See `Dialect`."""
    return not Path(_path(url)).exists()


def load(url: URL, path: Path) -> None:
    """See `Dialect`."""
    target = Path(_path(url))
    try:
        with path.open("rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise DumpFailed(f"{path} is not of SQLite; set STOVETOP_DATABASE_URL")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    except OSError as error:
        raise DumpFailed(f"can't write {target}: {error}") from error


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
