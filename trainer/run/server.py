"""A server beside one run: the control API in a process of its own, for as long as the run trains.

In: the run's installation. Out: one line with the addresses, each time it answers; the training
does not wait for it. Guaranteed: one that dies is started again; it ends with this process,
whatever ends that, and within STOP_S when the run has ended, whoever is connected. `trainer` knows
it by its module's name and one line of JSON.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from ingest.settings import Settings

log = structlog.get_logger()

STOP_S = 1.0
AGAIN_S = (1.0, 30.0)  # after its death; doubles, up to the second


@contextmanager
def own_server(settings: Settings, run_name: str) -> Iterator[None]:
    """Runs while the body does."""
    server = _Server(settings, run_name)
    # The thread stays as long as each process: who starts one must outlive it (PDEATHSIG).
    keeping = threading.Thread(target=server.keep, name="server", daemon=True)
    keeping.start()
    try:
        yield
    finally:
        server.end()
        keeping.join(STOP_S)


class _Server:
    def __init__(self, settings: Settings, run_name: str) -> None:
        self._settings = settings
        self._run_name = run_name
        self._log = settings.data / "logs" / "api.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def keep(self) -> None:
        """Start it, and again when it dies, until `end`."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        pause_s, longest_s = AGAIN_S
        while (process := self._start()) is not None:
            if self._announce(process):
                pause_s = AGAIN_S[0]
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            if not self._is_over.is_set():
                log.warning("server_ended", exit_code=process.returncode, log=str(self._log))
            self._is_over.wait(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    def end(self) -> None:
        """End it, by force after STOP_S."""
        with self._lock:
            self._is_over.set()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes] | None":
        """A new process; None once it is over."""
        module = ["-m", "control_api.bound", str(os.getpid()), "control_api.embedded"]
        environment = {**os.environ, "STOVETOP_DATA": str(self._settings.data.absolute())}
        with self._lock, self._log.open("ab") as errors:
            if self._is_over.is_set():
                return None
            self._process = subprocess.Popen(
                [sys.executable, *module],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
            return self._process

    def _announce(self, process: "subprocess.Popen[bytes]") -> bool:
        """Tell where it is, once it answers; whether it does."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            return False
        address = json.loads(line)
        sys.stderr.write(
            f"Stovetop: {address['page']}  run {self._run_name}; steer it: "
            f"STOVETOP_URL={address['url']} STOVETOP_KEY={address['key']} "
            f"stovetop lr {self._run_name} 1e-4; "
            f"look at it later: stovetop up --data {self._settings.data}\n"
        )
        return True
