"""One supervisor a data folder: a file lock that the kernel gives back when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "up.lock"
RESTORING = "restore-unfinished"  # lies in a folder while a backup is restored to it


class FolderHeld(Exception):
    """Another `stovetop up` runs on the folder, or a restore; the message says what to do."""


@contextmanager
def hold_folder(data: Path) -> Iterator[None]:
    """Hold a data folder. Raises FolderHeld naming the process that has it and the fix."""
    if (data / RESTORING).exists():
        raise FolderHeld(
            f"a backup is being restored to {data}, or that was interrupted: let it end, or empty "
            "the folder and the database and restore again"
        )
    # Opened for appending, so that a refused second one does not wipe the first one's pid.
    with (data / LOCK_NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise FolderHeld(
                f"`stovetop up` runs on {data} already (process {pid}); "
                f"stop it (kill {pid}) or choose another --data"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
