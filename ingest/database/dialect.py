"""What SQLite and PostgreSQL do each their own way, and which one a URL means."""

from typing import Protocol

from sqlalchemy import URL, Connection, Engine

from ingest.database import sqlite
from ingest.database.lookout import Lookout


class Dialect(Protocol):
    """One of the two modules beside this one."""

    def open_engine(self, url: URL, *, busy_timeout_s: float) -> Engine:
        """An engine whose transactions wait for another's lock so long."""

    def writing(self, engine: Engine) -> Engine:
        """The engine, for transactions that write."""

    def reading(self, engine: Engine) -> Engine:
        """The engine, for transactions that only read, all of it as of one moment."""

    def take_turn(self, connection: Connection, name: str) -> None:
        """Wait for the transactions that have taken the turn of this name."""

    def make_place(self, url: URL) -> None:
        """Make what a migration fills, where that is ours to make."""

    def begin_migration(self, connection: Connection) -> None:
        """Let a migration take its time, alone."""

    def announce(self, connection: Connection, channel: str, word: str) -> None:
        """Wake the lookouts of a channel and word once the transaction is committed."""

    def open_lookout(self, engine: Engine, statement: str, channel: str, word: str) -> Lookout:
        """A lookout for rows of a statement that is announced so."""


def dialect_called(name: str) -> Dialect:
    """The dialect of this SQLAlchemy name. Raises ValueError where it is neither."""
    if name == "sqlite":
        return sqlite
    if name == "postgresql":
        from ingest.database import postgresql  # noqa: PLC0415  (psycopg, which SQLite has no use for)

        return postgresql
    raise ValueError(f"STOVETOP_DATABASE_URL: begins with sqlite: or postgresql:, not {name}:")
