"""SQLite's write-ahead log, emptied: what was overwritten stays in it otherwise."""

import sqlite3
import time

LOOK_EVERY_S = 0.05


def truncate_wal(connection: sqlite3.Connection, within_s: float) -> None:
    """Move all of the WAL into its database, and cut it to nothing.

    Readers hold it up for as long as they read. Raises sqlite3.OperationalError after that time.
    """
    deadline = time.monotonic() + within_s
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("the WAL can't be emptied: another process reads")
        time.sleep(LOOK_EVERY_S)
