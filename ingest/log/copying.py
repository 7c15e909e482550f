"""The embedded log's file, copied beside its writers, and made fit to go on with later rows.

In: a log's file. Out: another with all that was acknowledged when the copy began. Guaranteed: a log
that is older than the offsets in SQL never gives an offset twice: what is appended to it comes
after all that was ever read.
"""

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_log(path: Path, target: Path) -> bool:
    """Copy a log's records to a new file, as of one moment. Raises sqlite3.Error.

    False, and no file, where the log is only being made: nothing was acknowledged by it yet.
    """
    with (
        closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        is_log = bool(copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'records'").fetchall())
    if not is_log:
        target.unlink(missing_ok=True)
    return is_log


def go_on_from(path: Path, offset: int) -> None:
    """Let a copy, which nobody uses, give this offset next, or a later one."""
    with closing(sqlite3.connect(path)) as copy, copy:
        moved = copy.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'records'", (offset - 1,)
        )
        if moved.rowcount == 0:  # nothing was ever appended
            copy.execute("INSERT INTO sqlite_sequence VALUES ('records', ?)", (offset - 1,))
