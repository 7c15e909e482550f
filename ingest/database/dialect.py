"""What SQLite and PostgreSQL do each their own way, and which one a URL means."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, ColumnElement, Connection, Engine, Table
from sqlalchemy.orm import InstrumentedAttribute

from ingest.database import sqlite
from ingest.database.lookout import Lookout

Row = tuple[object, ...]


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

    def share_turn(self, connection: Connection, name: str) -> None:
        """Wait for who has taken the turn of this name, and let nobody take it meanwhile."""

    def erase_traces(self, engine: Engine) -> str | None:
        """Leave nothing behind of deleted rows; what remains all the same, in words."""

    def is_among(
        self, column: InstrumentedAttribute[str], values: Collection[str]
    ) -> ColumnElement[bool]:
        """That a text is one of these, which are one parameter and not as many."""

    def insert_rows(
        self, connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]
    ) -> None:
        """Insert rows of these columns."""

    def update_rows(
        self, connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]
    ) -> None:
        """Set the columns but the first, which says in which row."""

    def make_place(self, url: URL) -> None:
        """Make what a migration fills, where that is ours to make."""

    def begin_migration(self, connection: Connection) -> None:
        """Let a migration take its time, alone."""

    def announce(self, connection: Connection, channel: str, word: str) -> None:
        """Wake the lookouts of a channel and word once the transaction is committed."""

    def dump(self, connection: Connection, path: Path) -> None:
        """Write what a reading transaction sees, which has begun to read, to a new file.

        Raises DumpFailed.
        """

    def is_empty(self, url: URL) -> bool:
        """Whether nothing is there, or no table."""

    def load(self, url: URL, path: Path) -> None:
        """Fill what is empty from a file that `dump` wrote. Raises DumpFailed."""

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
