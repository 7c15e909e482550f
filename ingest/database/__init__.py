"""The SQL database: SQLite on one machine, PostgreSQL in production, by `STOVETOP_DATABASE_URL`.

transactions   engines, `write` and `read`, numbers in commit order, turns, announcements
lookout        a question that is asked over and over: is there anything new?
schema         the migrations
copies, dumps  a whole database as one file, for backups
types          whole numbers and texts that are the same on both
dialect        what each of the two does its own way, and which one a URL means
wal            SQLite's write-ahead log, emptied
sqlite         one writer at a time, who takes the lock at BEGIN
postgresql     many writers, who queue at rows

Outside this folder nothing asks which of them it is.
"""

from ingest.database.copies import dump, is_empty, load
from ingest.database.dumps import DumpFailed
from ingest.database.lookout import Lookout, Unreachable
from ingest.database.schema import alembic_config, upgrade
from ingest.database.transactions import (
    announce,
    erase_traces,
    insert_rows,
    is_among,
    migrating,
    next_number,
    open_engine,
    open_lookout,
    read,
    share_turn,
    take_turn,
    update_rows,
    write,
)

__all__ = [
    "DumpFailed",
    "Lookout",
    "Unreachable",
    "alembic_config",
    "announce",
    "dump",
    "erase_traces",
    "insert_rows",
    "is_among",
    "is_empty",
    "load",
    "migrating",
    "next_number",
    "open_engine",
    "open_lookout",
    "read",
    "share_turn",
    "take_turn",
    "update_rows",
    "upgrade",
    "write",
]
