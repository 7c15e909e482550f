"""PostgreSQL by psycopg 3: READ COMMITTED for writers, one snapshot for readers.

Guaranteed: what may be tried again comes as sqlalchemy's OperationalError: a lost connection, a
lock that another holds for too long, a deadlock, a statement past its time, a server that can't be
written to. No transaction of ours waits forever: the server ends what takes longer than `_LIMITS`.
Decision: PostgreSQL has no NUL in its texts; one becomes U+2400, the sign for it. JSON has it
escaped and dead letters keep the original bytes, so nothing of an event is lost by that.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import psycopg
from sqlalchemy import (
    ARRAY,
    URL,
    ColumnElement,
    Connection,
    Engine,
    ExceptionContext,
    Table,
    Text,
    any_,
    create_engine,
    event,
    inspect,
    literal,
    text,
)
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from ingest.database.dumps import run_program
from ingest.database.listening import ListeningLookout

# Of one process: the API's threads are the most that ask at once; each connection is a process of
# the server's, which takes 100 by default.
POOL_SIZE = 5
MAX_MORE_CONNECTIONS = 15
POOL_WAIT_S = 5.0

_LIMITS = {
    "statement_timeout": "120s",
    "idle_in_transaction_session_timeout": "120s",
}
_CONNECTION = {
    "application_name": "stovetop",
    "connect_timeout": "5",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",  # ms until what nobody acknowledges is a lost connection
    "target_session_attrs": "read-write",  # after a fail-over not the one that only reads now
}
_REMAINS = (
    "PostgreSQL: rows and statistics are gone and their space is given back, but pages keep the "
    "bytes until they are overwritten, and so does its write-ahead log; `VACUUM FULL` at a quiet "
    "time, `CHECKPOINT`, and the end of archived logs remove them"
)
_Parameters = Mapping[str, object] | Sequence[Mapping[str, object]] | tuple[Sequence[object], ...]
_NUL, _SIGN_OF_NUL = "\x00", "\u2400"
_KINDS = {str: "text", int: "bigint", float: "double precision", bool: "boolean", bytes: "bytea"}
# What psycopg files under other errors: who slept inside a transaction has lost the connection, and
# a table that is not there comes with the schema's upgrade (SQLite calls that operational, too).
_OUTAGES = ("25P03", "42P01")


def open_engine(url: URL, *, busy_timeout_s: float) -> Engine:
    """See `Dialect`; what the URL's query says of the connection holds before ours."""
    limits = {**_LIMITS, "lock_timeout": f"{max(1, round(busy_timeout_s * 1000))}ms"}
    options = [f"-c {name}={value}" for name, value in limits.items()]
    own = {name: value for name, value in _CONNECTION.items() if name not in url.query}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        connect_args={**own, "options": " ".join([*options, *_given_options(url)])},
        pool_pre_ping=True,
        pool_size=POOL_SIZE,
        max_overflow=MAX_MORE_CONNECTIONS,
        pool_timeout=POOL_WAIT_S,
    )
    event.listen(engine, "before_cursor_execute", _without_nul, retval=True)
    event.listen(engine, "handle_error", _as_outage)
    return engine


def _given_options(url: URL) -> Sequence[str]:
    given = url.query.get("options", ())
    return [given] if isinstance(given, str) else given


def _without_nul(
    _connection: Connection,
    _cursor: object,
    statement: str,
    parameters: _Parameters,
    _context: object,
    _is_many: bool,
) -> tuple[str, _Parameters]:
    if isinstance(parameters, tuple):  # whole columns, which are clean
        return statement, parameters
    if isinstance(parameters, Mapping):
        return statement, _clean(parameters) if _holds_nul(parameters) else parameters
    if any(_holds_nul(row) for row in parameters):
        return statement, [_clean(row) for row in parameters]
    return statement, parameters


def _holds_nul(row: Mapping[str, object]) -> bool:
    return any(type(value) is str and _NUL in value for value in row.values())


def _clean(row: Mapping[str, object]) -> dict[str, object]:
    return {name: _cleaned(value) for name, value in row.items()}


def _as_outage(context: ExceptionContext) -> None:
    error = context.original_exception
    if getattr(error, "sqlstate", None) in _OUTAGES:
        raise OperationalError(context.statement, context.parameters, error) from error


def writing(engine: Engine) -> Engine:
    """See `Dialect`."""
    return engine


def reading(engine: Engine) -> Engine:
    """See `Dialect`."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def take_turn(connection: Connection, name: str) -> None:
    """See `Dialect`."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name}
    )


def share_turn(connection: Connection, name: str) -> None:
    """See `Dialect`."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:name, 0))"), {"name": name}
    )


def erase_traces(engine: Engine) -> str | None:
    """See `Dialect`.

    ANALYZE as well, for the planner's statistics quote values. `VACUUM FULL` would lock everybody
    out for as long as a table takes to be written anew, so that is for its administrator to say.
    """
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM (ANALYZE)"))
        connection.invalidate()  # that setting is not for the next one's statements
    return _REMAINS


def is_among(column: InstrumentedAttribute[str], values: Collection[str]) -> ColumnElement[bool]:
    """See `Dialect`."""
    return column == any_(literal(list(values), ARRAY(Text)))


def insert_rows(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """See `Dialect`; an INSERT from arrays would take three times as long."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    statement = f"COPY {table.name} ({', '.join(names)}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row([_cleaned(value) for value in row])
    except psycopg.Error as error:
        kind = IntegrityError if isinstance(error, psycopg.IntegrityError) else OperationalError
        raise kind(statement, None, error) from error


def update_rows(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """See `Dialect`."""
    key, *changed = names
    changes = ", ".join(f"{name} = new.{name}" for name in changed)
    given = f"{_arrays(table, names)} AS new ({', '.join(names)})"
    same = f"{table.name}.{key} = new.{key}"
    statement = f"UPDATE {table.name} SET {changes} FROM {given} WHERE {same}"  # noqa: S608  (ours)
    connection.exec_driver_sql(statement, _columns(rows))


def _columns(rows: Sequence[tuple[object, ...]]) -> tuple[list[object], ...]:
    return tuple([_cleaned(value) for value in column] for column in zip(*rows, strict=True))


def _cleaned(value: object) -> object:
    return value.replace(_NUL, _SIGN_OF_NUL) if type(value) is str and _NUL in value else value


def _arrays(table: Table, names: Sequence[str]) -> str:
    kinds = [_KINDS[table.c[name].type.python_type] for name in names]
    return f"unnest({', '.join(f'%s::{kind}[]' for kind in kinds)})"


def make_place(_url: URL) -> None:
    """See `Dialect`; whoever runs the server makes its databases."""


def begin_migration(connection: Connection) -> None:
    """See `Dialect`."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    take_turn(connection, "migrations")


def announce(connection: Connection, channel: str, word: str) -> None:
    """See `Dialect`."""
    connection.execute(
        text("SELECT pg_notify(:channel, :word)"), {"channel": channel, "word": word}
    )


def dump(connection: Connection, path: Path) -> None:
    """See `Dialect`; `pg_dump` sees what this transaction does."""
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
    url = connection.engine.url
    run_program("pg_dump", url, "--format=custom", f"--snapshot={snapshot}", f"--file={path}")


def is_empty(url: URL) -> bool:
    """See `Dialect`."""
    engine = open_engine(url, busy_timeout_s=0)
    try:
        return not inspect(engine).get_table_names()
    finally:
        engine.dispose()


def load(url: URL, path: Path) -> None:
    """See `Dialect`; whole or not at all."""
    whose = ("--no-owner", "--no-privileges")
    run_program("pg_restore", url, "--single-transaction", "--exit-on-error", *whose, str(path))


def open_lookout(engine: Engine, statement: str, channel: str, word: str) -> ListeningLookout:
    """See `Dialect`."""
    return ListeningLookout(engine, statement, channel, word)
