"""Plain processes of an installation, forked by one that has imported everything already.

In: a module as after `python -m`, its arguments and environment, and where it is to die. Out: a
process that runs the module's `main`, in which nothing else differs from one that was started by
its own command. Guaranteed: all of them die with whoever opened the zygote. The decision: torch
takes 5 s to import and a fork 20 ms, without which 30 kills would take five minutes.

Every process reads its wall clock with the offset in the file that STOVETOP_TEST_CLOCK names,
so that a test can turn it back while they run.
"""

import ctypes
import importlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crashes.commit_points import POINTS, arm
from tests.waiting import wait_until

PRELOADED = (
    "control_api.serve",
    "ingest.consume",
    "ingest.log.kafka.log",
    "ingest.database.postgresql",
    "ingest.replay.worker",
    "trainer.encode",
    "trainer.run.__main__",
    "trainer.causal_lm.family",
    "trainer.neuralos.family",
)
CLOCK = "STOVETOP_TEST_CLOCK"
LOOK_EVERY_S = 0.01
START_WITHIN_S = 240.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Trap:
    """A commit point, by its place in `POINTS`, and at which call of it the process dies."""

    point: int
    call: int


class Zygote:
    """Forks processes, and knows how each of them ended; close it."""

    def __init__(self) -> None:
        """Start it; what it forks waits until its imports are done."""
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.crashes.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._started: list[int] = []
        self._codes: dict[int, int] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def fork(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        trap: Trap | None = None,
    ) -> int:
        """Start a process; its id."""
        assert self._process.stdin is not None
        wanted = {
            "module": module,
            "arguments": [*arguments],
            "environment": dict(environment),
            "log_path": str(log_path),
            "trap": [trap.point, trap.call] if trap else None,
        }
        count = len(self._started)
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        wait_until(
            lambda: len(self._started) > count or not self._listener.is_alive(), START_WITHIN_S
        )
        return self._started[count]

    def code(self, pid: int) -> int | None:
        """How a process ended (-9: by SIGKILL); None while it lives."""
        return self._codes.get(pid)

    def kill(self, pid: int) -> int:
        """`kill -9`; how it ended, which may have been before."""
        if self.code(pid) is None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.code(pid) is not None)
        return self._codes[pid]

    def close(self) -> None:
        """Kill all that is left."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "started" in told:
                self._started.append(told["started"])
            else:
                self._codes[told["ended"]] = told["code"]


def main() -> None:
    """Fork what stdin asks for, and tell on stdout what has ended, until stdin ends."""
    for module in PRELOADED:
        importlib.import_module(module)
    while True:
        readable, _, _ = select.select([sys.stdin.buffer], [], [], LOOK_EVERY_S)
        if readable:
            # Unbuffered: else a second line would wait unseen by select.
            line = _read_line(sys.stdin.fileno())
            if not line:
                return
            _tell(started=_fork(json.loads(line)))
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                _tell(ended=ended[0], code=os.waitstatus_to_exitcode(ended[1]))


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece:
            break
        line += piece
    return line


def _tell(**what: int) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def _fork(wanted: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _run(wanted)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001  (a process of its own: the trace is in its log)
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    return pid


def _run(wanted: dict[str, Any]) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setpgid(0, 0)
    output = os.open(wanted["log_path"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(wanted["environment"])
    if CLOCK in os.environ:
        _turn_clock(Path(os.environ[CLOCK]))
    if wanted["trap"] is not None:
        point, call = wanted["trap"]
        arm(POINTS[point], call)
    sys.argv = [wanted["module"], *wanted["arguments"]]
    return importlib.import_module(wanted["module"]).main() or 0


def _turn_clock(path: Path) -> None:
    """The product asks no other wall clock than `time.time`."""
    real = time.time
    file = path.open("rb", buffering=0)

    def turned() -> float:
        return real() + struct.unpack("d", os.pread(file.fileno(), 8, 0))[0]

    time.time = turned


if __name__ == "__main__":
    main()
