"""Looking at real processes: waiting for what they do, and whether they live."""

from collections.abc import Callable
from pathlib import Path

from tests.waiting import wait_until

DEADLINE_S = 90.0


def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so; fail when it takes too long."""
    wait_until(is_so, DEADLINE_S)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
