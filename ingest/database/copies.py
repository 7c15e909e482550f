"""A database as one file, made beside its writers, and back: for backups."""

from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from ingest.database.dialect import Dialect, dialect_called


def dump(session: Session, path: Path) -> None:
    """Write what a reading transaction sees to a new file. Raises DumpFailed."""
    session.execute(text("SELECT 1 FROM counters LIMIT 1"))  # from here on it sees one moment
    connection = session.connection()
    dialect_called(connection.dialect.name).dump(connection, path)


def is_empty(url: str) -> bool:
    """Whether a database is not there yet, or has no table."""
    return _dialect(url).is_empty(make_url(url))


def load(url: str, path: Path) -> None:
    """Fill an empty database from a file that `dump` wrote. Raises DumpFailed."""
    _dialect(url).load(make_url(url), path)


def _dialect(url: str) -> Dialect:
    return dialect_called(make_url(url).get_backend_name())
