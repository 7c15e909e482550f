"""The SQL database: SQLite on one machine, PostgreSQL in production, by `STOVETOP_DATABASE_URL`.

transactions   engines, `write` and `read`, numbers in commit order, turns, announcements
lookout        a question that is asked over and over: is there anything new?
schema         the migrations
types          whole numbers and texts that are the same on both
dialect        what each of the two does its own way, and which one a URL means
sqlite         one writer at a time, who takes the lock at BEGIN
postgresql     many writers, who queue at rows

Outside this folder nothing asks which of them it is.
"""

from ingest.database.lookout import Lookout, Unreachable
from ingest.database.schema import alembic_config, upgrade
from ingest.database.transactions import (
    announce,
    migrating,
    next_number,
    open_engine,
    open_lookout,
    read,
    take_turn,
    write,
)

__all__ = [
    "Lookout",
    "Unreachable",
    "alembic_config",
    "announce",
    "migrating",
    "next_number",
    "open_engine",
    "open_lookout",
    "read",
    "take_turn",
    "upgrade",
    "write",
]
