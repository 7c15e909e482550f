"""Looking at real processes: waiting for what they do, and whether they live."""

import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 90.0


def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so; fail when it takes too long."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
