"""A server beside one run: the control API in a process of its own, for as long as the run trains.

In: the run's installation. Out: one line with the addresses, once it answers; the training does not
wait for it. Guaranteed: it ends with this process, whatever ends that, and within STOP_S when the
run has ended, whoever is connected. `trainer` knows it by its module's name and one line of JSON.
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


@contextmanager
def own_server(settings: Settings, run_name: str) -> Iterator[None]:
    """Runs while the body does."""
    logs = settings.data / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    module = ["-m", "control_api.bound", str(os.getpid()), "control_api.embedded"]
    environment = {**os.environ, "STOVETOP_DATA": str(settings.data.absolute())}
    with (logs / "api.log").open("ab") as errors:
        server = subprocess.Popen(
            [sys.executable, *module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
    announcing = threading.Thread(
        target=_announce, args=(server, settings, run_name), name="server", daemon=True
    )
    announcing.start()
    try:
        yield
    finally:
        _end(server)
        announcing.join(STOP_S)


def _announce(server: "subprocess.Popen[bytes]", settings: Settings, run_name: str) -> None:
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        log.warning("server_not_started", log=str(settings.data / "logs" / "api.log"))
        return
    address = json.loads(line)
    sys.stderr.write(
        f"Stovetop: {address['page']}  run {run_name}; steer it: "
        f"STOVETOP_URL={address['url']} STOVETOP_KEY={address['key']} stovetop lr {run_name} 1e-4; "
        f"look at it later: stovetop up --data {settings.data}\n"
    )


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
