"""A supervised process: started, watched, started again with growing patience, ended in time.

Guaranteed on Linux: it dies with the process that started it, even by `kill -9` (`bound`), and
`wait_or_kill` leaves nothing of its process group behind.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from control_api.bound import command_line

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 30.0
STEADY_S = 60.0
MAX_LOG_BYTES = 16 << 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a module and its arguments; `ends_by_itself`: exit 0 means that it is done."""

    name: str
    module: tuple[str, *tuple[str, ...]]
    passed_fds: tuple[int, ...] = ()
    ends_by_itself: bool = False


class Backoff:
    """Seconds until the next start: 1, 2, 4 ... 30; from 1 again after a steady minute."""

    def __init__(self) -> None:
        self._next_s = FIRST_DELAY_S

    def delay_after(self, alive_s: float) -> float:
        """The delay after a process that was alive for so long."""
        if alive_s >= STEADY_S:
            self._next_s = FIRST_DELAY_S
        delay_s, self._next_s = self._next_s, min(2 * self._next_s, MAX_DELAY_S)
        return delay_s


class Child:
    """One program's process over its restarts; times are `time.monotonic()` of the caller."""

    def __init__(self, program: Program, log_path: Path, environment: Mapping[str, str]) -> None:
        self._program = program
        self._log_path = log_path
        self._environment = environment
        self._backoff = Backoff()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at: float | None = 0.0

    def look(self, now: float) -> None:
        """Notice an end, and start what is due."""
        if self._process is not None and self._process.poll() is not None:
            self._note_end(self._process, now)
        if self._process is None and self._start_at is not None and now >= self._start_at:
            self._start(now)

    def ask_to_end(self) -> None:
        """Send SIGTERM, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_or_kill(self, timeout_s: float) -> None:
        """Wait for its end at most so long, then kill its whole process group."""
        if self._process is None:
            return
        try:
            self._process.wait(max(timeout_s, 0.0))
        except subprocess.TimeoutExpired:
            log.warning("process_killed", name=self._program.name, pid=self._process.pid)
        kill_group(self._process.pid)
        self._process.wait()
        self._process = None

    def _start(self, now: float) -> None:
        self._started_at, self._start_at = now, None
        try:
            self._process = self._open()
        except OSError as error:  # a full disk or process table, which may pass
            self._start_again(now, reason=str(error))
            return
        log.info("process_started", name=self._program.name, pid=self._process.pid)

    def _open(self) -> subprocess.Popen[bytes]:
        _keep_short(self._log_path)
        with self._log_path.open("ab") as output:
            return subprocess.Popen(
                command_line(*self._program.module),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=self._program.passed_fds,
                process_group=0,  # a Ctrl-C in the terminal reaches the supervisor alone
            )

    def _note_end(self, process: subprocess.Popen[bytes], now: float) -> None:
        kill_group(process.pid)
        self._process = None
        if self._program.ends_by_itself and process.returncode == 0:
            log.info("process_finished", name=self._program.name)
            return
        self._start_again(now, reason=f"exit code {process.returncode}, see {self._log_path}")

    def _start_again(self, now: float, reason: str) -> None:
        delay_s = self._backoff.delay_after(now - self._started_at)
        self._start_at = now + delay_s
        log.warning("process_ended", name=self._program.name, reason=reason, restart_in_s=delay_s)


def kill_group(group: int) -> None:
    """Kill whatever is left of a process group that a child led."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _keep_short(log_path: Path) -> None:
    """One older log is kept beside a grown one."""
    if log_path.exists() and log_path.stat().st_size > MAX_LOG_BYTES:
        log_path.replace(log_path.with_suffix(".log.1"))
