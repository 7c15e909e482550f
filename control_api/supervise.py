"""One machine's supervisor: `stovetop up` starts every process, keeps it running, and ends it.

In: the settings, and a run to train when asked. Out: processes whose output goes to DIR/logs.
Guaranteed: one supervisor a folder (flock); what dies is started again after 1 s, doubling to 30 s;
children end with the supervisor, whatever ends it (PDEATHSIG), and every stage survives that, so a
second `up` loses nothing. The server's socket is opened here and handed to the API: while that is
started again, requests wait instead of being refused. The API comes first and alone, so that the
page is there before torch is loaded.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from control_api.child import Child, Program
from control_api.folder_lock import hold_folder
from control_api.listener import listen, shown_url
from control_api.page_key import new_page_key
from control_api.remote import Remote, RemoteError
from ingest.database import open_engine, upgrade, write
from ingest.settings import Settings

LOOK_EVERY_S = 0.1
STOP_WAIT_S = 10.0
PORT_WAIT_S = 3.0
ANSWER_WAIT_S = 0.5

log = structlog.get_logger()


class PortTaken(Exception):
    """Another program listens on the address."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is; `page` carries a key that can only read."""

    url: str
    page: str


class Supervisor:
    """The processes of one machine; use `supervising`."""

    def __init__(self, children: Sequence[Child], address: Address) -> None:
        self.address = address
        self._children = children
        self._is_stopping = False

    def run(self, announce: Callable[[], None]) -> None:
        """Keep the processes running until SIGTERM, SIGINT or SIGHUP, then end them.

        `announce` is called once the server answers.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                signal.signal(number, self._stop)
        try:
            self._keep(self._children[:1], until=self._server_answers)
            if not self._is_stopping:
                announce()
            self._keep(self._children, until=lambda: False)
        finally:
            self._end_all()

    def _keep(self, children: Sequence[Child], until: Callable[[], bool]) -> None:
        while not (self._is_stopping or until()):
            for child in children:
                child.look(time.monotonic())
            time.sleep(LOOK_EVERY_S)

    def _server_answers(self) -> bool:
        try:
            Remote(self.address.url, key="", timeout_s=ANSWER_WAIT_S).get("/livez")
        except RemoteError:
            return False
        return True

    def _stop(self, _number: int, _frame: object) -> None:
        self._is_stopping = True

    def _end_all(self) -> None:
        """Ask all to end, wait at most STOP_WAIT_S, kill what is left with all of its own."""
        for child in self._children:
            child.ask_to_end()
        deadline = time.monotonic() + STOP_WAIT_S
        for child in self._children:
            child.wait_or_kill(deadline - time.monotonic())


@contextmanager
def supervising(settings: Settings, *, run_name: str | None) -> Iterator[Supervisor]:
    """Make the installation in `settings.data` ready and hold it.

    Raises FolderHeld where another supervisor has it, PortTaken where the port is in use.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    with hold_folder(settings.data), _listener(settings) as listener:
        upgrade(settings)
        url = shown_url(settings.host, listener)
        address = Address(url, f"{url}/#key={_page_key(settings)}")
        logs = settings.data / "logs"
        logs.mkdir(exist_ok=True)
        environment = {
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "STOVETOP_DATA": str(settings.data.absolute()),
        }
        yield Supervisor(
            [
                Child(program, logs / f"{program.name}.log", environment)
                for program in _programs(listener.fileno(), run_name)
            ],
            address,
        )


def _programs(listener_fd: int, run_name: str | None) -> list[Program]:
    serve = ("control_api.serve", "--fd", str(listener_fd))
    programs = [
        Program("api", serve, passed_fds=(listener_fd,)),
        Program("consumer", ("ingest.consume",)),
        Program("replay", ("ingest.replay.worker",)),
        Program("encode", ("trainer.encode",)),
        Program("evaluate", ("trainer.evaluate",)),
    ]
    if run_name is not None:
        train = ("trainer.run", "--name", run_name)
        programs.append(Program("train", train, ends_by_itself=True))
    return programs


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """The server's socket; a killed supervisor's API may hold it for a moment yet."""
    deadline = time.monotonic() + PORT_WAIT_S
    while True:
        try:
            listener = listen(settings.host, settings.port)
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                raise PortTaken(
                    f"can't listen on {settings.host}:{settings.port} ({error.strerror}); "
                    "choose another with --port"
                ) from error
            time.sleep(LOOK_EVERY_S)
    with listener:
        yield listener


def _page_key(settings: Settings) -> str:
    engine = open_engine(settings.resolved_database_url)
    try:
        with write(engine) as session:
            return new_page_key(session, time.time())
    finally:
        engine.dispose()
