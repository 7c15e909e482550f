"""Engines and transactions, alike on SQLite and PostgreSQL.

Guaranteed: a `read` sees one moment; a `write` is committed whole or not at all, and sees what was
committed before each statement. What two writers could both decide on the same rows is decided
under a row's lock (`with_for_update`), a counter's (`next_number`) or a turn's (`take_turn`): on
SQLite, where a writer is alone from BEGIN on, these cost nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import URL, ColumnElement, Connection, Engine, Table, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import InstrumentedAttribute, Session

from ingest.database.dialect import Dialect, Row, dialect_called
from ingest.database.lookout import Lookout

BUSY_TIMEOUT_S = 5.0


def open_engine(url: str | URL, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Open the database behind a SQLAlchemy URL; another's lock is waited for so long."""
    url = make_url(url)
    return dialect_called(url.get_backend_name()).open_engine(url, busy_timeout_s=busy_timeout_s)


@contextmanager
def write(engine: Engine) -> Iterator[Session]:
    """One writing transaction: committed at the end, rolled back by an exception."""
    writer = _dialect(engine).writing(engine)
    with Session(writer, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def read(engine: Engine) -> Iterator[Session]:
    """One reading transaction: a consistent view, nothing written."""
    reader = _dialect(engine).reading(engine)
    with Session(reader, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def migrating(url: str) -> Iterator[Connection]:
    """One transaction for the schema's migrations: it may take its time, and others wait for it."""
    engine = open_engine(url)
    dialect = _dialect(engine)
    dialect.make_place(engine.url)
    try:
        with dialect.writing(engine).begin() as connection:
            dialect.begin_migration(connection)
            yield connection
    finally:
        engine.dispose()


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


def take_turn(session: Session, name: str) -> None:
    """Wait until no other transaction has the turn of this name, and hold it to the end.

    For rows that are not there yet, and so can't be locked.
    """
    _dialect_of(session).take_turn(session.connection(), name)


def is_among(
    session: Session, column: InstrumentedAttribute[str], values: Collection[str]
) -> ColumnElement[bool]:
    """That a column's text is one of these, however many: 500 parameters take longer to bind."""
    return _dialect_of(session).is_among(column, values)


def insert_rows(session: Session, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert rows of these columns, unless there are none; half the time of SQLAlchemy's own."""
    if rows:
        _dialect_of(session).insert_rows(session.connection(), table, names, rows)


def update_rows(session: Session, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Set the columns but the first, which says in which row, unless there are no rows."""
    if rows:
        _dialect_of(session).update_rows(session.connection(), table, names, rows)


def share_turn(session: Session, name: str) -> None:
    """Wait until nobody has taken the turn of this name, and hold it together with others."""
    connection = session.connection()
    dialect_called(connection.dialect.name).share_turn(connection, name)


def erase_traces(engine: Engine) -> str | None:
    """Leave nothing behind of rows that were deleted; what remains all the same, in words.

    Raises sqlalchemy's OperationalError where others read for too long.
    """
    return _dialect(engine).erase_traces(engine)


def announce(session: Session, *, channel: str, word: str) -> None:
    """Wake the lookouts of this channel and word once the transaction is committed."""
    _dialect_of(session).announce(session.connection(), channel, word)


def open_lookout(engine: Engine, statement: str, *, channel: str, word: str) -> Lookout:
    """A lookout for a row of `statement`, whose parameters are $1, $2 ...

    Its `wait` returns early for what is announced with this channel and word.
    """
    return _dialect(engine).open_lookout(engine, statement, channel, word)


def _dialect(engine: Engine) -> Dialect:
    return dialect_called(engine.dialect.name)


def _dialect_of(session: Session) -> Dialect:
    return dialect_called(session.connection().dialect.name)
