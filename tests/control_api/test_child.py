"""A supervised process: started again with growing patience, and ended with all of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from control_api.bound import command_line
from control_api.child import Backoff, Child, Program
from tests.control_api.processes import DEADLINE_S, is_alive, until


def test_restarts_wait_longer_and_longer_up_to_half_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.delay_after(0.1) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_steady_minute_makes_the_next_restart_quick_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_after(59.9)
    assert backoff.delay_after(60.0) == 1
    assert backoff.delay_after(0.0) == 2


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Program]:
    """Makes a program from its source."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))

    def make(source: str, *, ends_by_itself: bool = False) -> Program:
        (tmp_path / "told_program.py").write_text(source)
        return Program("told", ("told_program",), ends_by_itself=ends_by_itself)

    return make


def start(program: Program, tmp_path: Path) -> tuple[Child, Path]:
    log_path = tmp_path / "told.log"
    child = Child(program, log_path, os.environ)
    child.look(0.0)
    return child, log_path


def test_what_a_child_says_is_in_its_log(program: Callable[[str], Program], tmp_path: Path) -> None:
    child, log_path = start(program("print('hello')"), tmp_path)
    until(lambda: log_path.read_text() == "hello\n")
    child.wait_or_kill(DEADLINE_S)


def test_a_child_that_ends_is_started_again_when_its_time_has_come(
    program: Callable[[str], Program], tmp_path: Path
) -> None:
    child, log_path = start(program("import os; print(os.getpid())"), tmp_path)

    def number_of_starts(now: float) -> int:
        child.look(now)
        return len(log_path.read_text().splitlines())

    until(lambda: number_of_starts(0.5) == 1)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        assert number_of_starts(0.9) == 1
    until(lambda: number_of_starts(2.0) == 2)
    child.wait_or_kill(DEADLINE_S)


def test_a_child_that_is_done_is_left_alone(
    program: Callable[..., Program], tmp_path: Path
) -> None:
    with capture_logs() as told:
        child, log_path = start(program("print('done')", ends_by_itself=True), tmp_path)

        def is_known_to_be_done() -> bool:
            child.look(0.0)
            return told[-1]["event"] == "process_finished"

        until(is_known_to_be_done)
        for now in range(100):
            child.look(float(now))
    assert [line["event"] for line in told] == ["process_started", "process_finished"]
    assert log_path.read_text() == "done\n"


def test_a_start_that_fails_is_tried_again(
    program: Callable[[str], Program], tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    child = Child(program("print('hello')"), folder / "told.log", os.environ)
    child.look(0.0)  # there is no such folder
    folder.mkdir()
    child.look(1.0)
    until(lambda: (folder / "told.log").read_text() == "hello\n")
    child.wait_or_kill(DEADLINE_S)


STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen(["sleep", "600"])
print(os.getpid(), grandchild.pid, flush=True)
signal.pause()
"""


def test_a_child_that_does_not_end_is_killed_with_all_of_its_own(
    program: Callable[[str], Program], tmp_path: Path
) -> None:
    child, log_path = start(program(STUBBORN), tmp_path)
    until(lambda: bool(log_path.read_text()))
    pids = [int(pid) for pid in log_path.read_text().split()]
    child.ask_to_end()
    child.wait_or_kill(0.1)
    until(lambda: not any(is_alive(pid) for pid in pids))


PARENT = """
import subprocess, sys
from control_api.bound import command_line
child = subprocess.Popen(command_line("told_program"))
print(child.pid, flush=True)
child.wait()
"""


def test_a_bound_process_dies_with_its_parent_even_by_kill_9(
    program: Callable[[str], Program], tmp_path: Path
) -> None:
    program("import signal; open('started', 'w'); signal.pause()")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    until((tmp_path / "started").exists)
    parent.send_signal(signal.SIGKILL)
    parent.wait(DEADLINE_S)
    until(lambda: not is_alive(pid))


def test_a_process_whose_parent_is_gone_already_does_not_start() -> None:
    command = command_line("this")
    command[3] = "1"  # as if another process had asked and died
    ended = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE_S)
    assert (ended.returncode, ended.stdout) == (1, b"")
