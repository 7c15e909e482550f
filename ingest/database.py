"""The SQL database: engines, transactions, numbers in commit order, and the schema's version.

SQLite runs in WAL mode; a writer takes the lock at BEGIN (`write`), so that two writers queue
instead of failing half way. Readers (`read`) never block. The schema comes from `migrations/` only,
and so does the file: one that has gone away is an error, which passes, and never an empty database.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from ingest.settings import Settings

if TYPE_CHECKING:
    import alembic.config

BUSY_TIMEOUT_S = 5.0


def open_engine(url: str | URL, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Open the database behind a SQLAlchemy URL; SQLite's lock is waited for so long."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    assert address.database is not None, "a database in memory has no second process"
    engine = create_engine(url, creator=partial(_connect, address.database, busy_timeout_s))
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _connect(path: str, busy_timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(path)}?mode=rw",
        uri=True,
        timeout=busy_timeout_s,
        check_same_thread=False,
    )


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own implicit BEGIN would start a deferred transaction; _begin_sqlite decides.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("stovetop_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def write(engine: Engine) -> Iterator[Session]:
    """One writing transaction: committed at the end, rolled back by an exception."""
    writer = engine.execution_options(stovetop_write=True)
    with Session(writer, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def read(engine: Engine) -> Iterator[Session]:
    """One reading transaction: a consistent view, nothing written."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


def next_number(session: Session, counter: str, count: int = 1) -> int:
    """The next number of a named counter (1, 2, 3 ...), in commit order.

    `count` of them are taken, and the last one is returned. The row stays locked until the
    transaction ends, so a smaller number is never committed later.
    """
    return int(
        session.execute(
            text(
                "INSERT INTO counters (name, value) VALUES (:name, :count) "
                "ON CONFLICT (name) DO UPDATE SET value = counters.value + :count RETURNING value"
            ),
            {"name": counter, "count": count},
        ).scalar_one()
    )


def upgrade(settings: Settings) -> None:
    """Bring the schema to the newest version, creating the data folder where needed."""
    import alembic.command  # noqa: PLC0415  (0.4 s that only the schema's upgrade needs to pay)

    settings.data.mkdir(parents=True, exist_ok=True)
    address = make_url(settings.resolved_database_url)
    if address.get_backend_name() == "sqlite" and address.database is not None:
        Path(address.database).touch()
    alembic.command.upgrade(alembic_config(settings.resolved_database_url), "head")


def alembic_config(url: str) -> "alembic.config.Config":
    """Alembic's configuration for one database, independent of the working folder."""
    import alembic.config  # noqa: PLC0415  (as in `upgrade`)

    import migrations  # noqa: PLC0415  (a data package: only the schema's upgrade needs it)

    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config
