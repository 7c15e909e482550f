"""Reception: commands that are new in SQL come into the trainer's memory, each once, in order.

In: the run's unsettled commands. Out: `take` at a step boundary gives all that were committed
before it. A listener thread looks every 10 ms; the boundary itself looks too, by `PRAGMA
data_version`: 2 us when nothing is new. Whoever finds a command claims it: writes `received`, and
only what it got is taken, for until then anybody may cancel it. Nothing is taken between the two,
so what anybody saw as `received` is taken at the next boundary, even if the database is away by
then. A claim that can't have the lock in 20 ms is left to the listener, and is `pending` meanwhile.
"""

import json
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Self

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.database import open_engine, read, write
from trainer import command_queue
from trainer.commands import AnyCommand, parse
from trainer.references import CommandRefused, MixVersion, find_mix, mix_of
from trainer.tables import Command

log = structlog.get_logger()

LOOK_EVERY_S = 0.01
# Others write for at most 20 ms; the command that comes amid it must not miss its boundary.
CLAIM_TIMEOUT_S = 0.02
RETRY_EVERY_S = 0.1  # a boundary that waits for a claim that fails would do so once in five


@dataclass(frozen=True, slots=True)
class Received:
    """A command in the trainer's hands, with the mix that it names, or why it can not be taken."""

    command_id: str
    number: int
    command: AnyCommand | None
    mix: MixVersion | None = None
    refusal: str | None = None


class Inbox:
    """The commands of one run after `after`, its listener, and the boundary's own look."""

    def __init__(self, engine: Engine, run_id: str, *, after: int) -> None:
        self._engine = engine
        self._run_id = run_id
        self._last_number = after
        self._version = -1
        self._versions = _open_versions(engine)
        self._claims = open_engine(engine.url, busy_timeout_s=CLAIM_TIMEOUT_S)
        with read(self._claims):
            pass  # the connection is there before the first command is
        self._found: list[Received] = []
        self._waiting: deque[Received] = deque()
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._closed = threading.Event()
        self._is_away = False
        self._thread = threading.Thread(target=self._listen, name="inbox", daemon=True)
        self._thread.start()

    def take(self) -> list[Received]:
        """Everything committed up to now and not taken yet, in order.

        It waits for a claim that is under way, which is one short commit, and for no other lock.
        """
        with self._lock:
            if self._look():
                self._claim()
            self._arrived.clear()
            return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def wait(self, timeout_s: float) -> None:
        """Return when something has arrived, or after `timeout_s`."""
        self._arrived.wait(timeout_s)

    def _listen(self) -> None:
        pause_s = LOOK_EVERY_S
        while not self._closed.wait(pause_s):
            with self._lock:
                self._look()
                pause_s = LOOK_EVERY_S if self._claim() else RETRY_EVERY_S

    def _look(self) -> bool:
        """Whether there was anything new, which is found now; the lock is held."""
        try:
            version = self._versions.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return False
            with read(self._engine) as session:
                rows = command_queue.unsettled(session, self._run_id, after=self._last_number)
                received = [_receive(session, row) for row in rows]
        except (OperationalError, sqlite3.OperationalError) as error:
            self._note_outage(error)
            return False
        self._is_away = False
        self._version = version
        if received:
            self._last_number = received[-1].number
            self._found += received
        return bool(received)

    def _claim(self) -> bool:
        """Make what was found the run's own, unless it was cancelled; the lock is held."""
        if not self._found:
            return True
        found = [command.command_id for command in self._found]
        try:
            with write(self._claims) as session:
                own = command_queue.mark_received(session, found, time.time())
        except OperationalError as error:
            self._note_outage(error)
            return False
        self._waiting.extend(command for command in self._found if command.command_id in own)
        self._found.clear()
        self._arrived.set()
        return True

    def _note_outage(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("inbox_database_away", run_id=self._run_id, reason=str(error))
        self._is_away = True

    def close(self) -> None:
        """End the listener."""
        self._closed.set()
        self._thread.join(timeout=1.0)
        self._versions.close()
        self._claims.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _receive(session: Session, row: Command) -> Received:
    """The row as a command; a stored one that does not parse any more is refused, not fatal."""
    try:
        command = parse(row.kind, json.loads(row.args_json))
        change = mix_of(command)
        mix = None if change is None else find_mix(session, change)
    except (ValidationError, CommandRefused, json.JSONDecodeError) as error:
        return Received(row.command_id, row.number, None, refusal=str(error))
    return Received(row.command_id, row.number, command, mix)


def _open_versions(engine: Engine) -> sqlite3.Connection:
    """A connection of its own for `data_version`, which tells of other connections' commits."""
    assert engine.url.database is not None, "the inbox listens to an SQLite file"
    return sqlite3.connect(
        f"file:{engine.url.database}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=0.0,
        check_same_thread=False,
    )
