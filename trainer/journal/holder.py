"""Which process this is, told so that another one can see whether it still lives.

A holder's mark is `<machine>/<pid>/<start>`: the machine is this boot and PID namespace, the start
tells a reused pid apart. So a run whose process was killed is free at once on the same machine,
and after its lease anywhere else. Linux; elsewhere only the lease decides.
"""

import os
from pathlib import Path

PROC = Path("/proc")


def this_process() -> str:
    """The mark of the process that asks."""
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}"


def has_died(mark: str) -> bool:
    """Whether the marked process surely runs no more; False where nothing can be known."""
    machine, pid, started = mark.split("/")
    if not _machine() or machine != _machine():
        return False
    return _started(int(pid)) != started


def _machine() -> str:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{boot}.{namespace}"


def _started(pid: int) -> str:
    """Start time in clock ticks since boot, "" for a process that is gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The name in parentheses may hold spaces; the state is the field after it, the start field 22.
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
