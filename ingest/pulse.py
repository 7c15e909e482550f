"""A worker's pulse: a file whose age says whether its loop still goes round.

In: the questions of a loop whether it is to stop, which each of ours asks at every turn and in each
of its waits. Out: the time of a file, renewed once a second at most; `python -m ingest.pulse
SECONDS` exits 0 while that is younger, else 1 with the reason, for a container's health check.
Guaranteed: a loop that hangs has no pulse, for nobody else renews it; one that waits for an absent
database or log has, for a restart would not bring those back. Decision: a file, and no row: what
looks at it needs neither a port nor the database, and costs 0.2 s.
"""

import argparse
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from ingest.settings import Settings

RENEWED_EVERY_S = 1.0


class PulsingEvent(threading.Event):
    """An event that is asked for by whoever lives: asking renews the file."""

    def __init__(self, path: Path) -> None:
        """Begin with a pulse. Raises OSError where the file can't be made."""
        super().__init__()
        self._path = path
        self._renew_at = 0.0
        path.touch()

    def is_set(self) -> bool:
        """See `threading.Event`."""
        self._renew()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """See `threading.Event`."""
        self._renew()
        return super().wait(timeout)

    def _renew(self) -> None:
        now = time.monotonic()
        if now < self._renew_at:
            return
        self._renew_at = now + RENEWED_EVERY_S
        with suppress(OSError):  # who looks at it sees that it grows old
            os.utime(self._path)


def what_is_wrong(path: Path | None, within_s: float) -> str | None:
    """Why the process whose pulse this is must be called unhealthy; None: it is well."""
    if path is None:
        return "STOVETOP_PULSE: not set, so no worker has a pulse here"
    try:
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return f"{path}: the worker has not begun"
    if age_s > within_s:
        return f"{path}: the last pulse was {age_s:.0f} s ago, more than {within_s:g}"
    return None


def main() -> None:
    """Look once."""
    parser = argparse.ArgumentParser(prog="python -m ingest.pulse")
    parser.add_argument("seconds", type=float, help="how old the pulse of a healthy worker may be")
    wrong = what_is_wrong(Settings().pulse, parser.parse_args().seconds)
    if wrong is not None:
        sys.exit(wrong)


if __name__ == "__main__":
    main()
