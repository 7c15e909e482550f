"""Reception: commands that are new in SQL come into the trainer's memory, each once, in order.

In: the run's unsettled commands. Out: `take` at a step boundary gives all that were committed
before it. A listener thread looks every 10 ms and writes `received`, always after the command is
in memory: so what anybody saw as `received` is taken at the next boundary, even if the database is
away by then. The boundary itself looks too, by `PRAGMA data_version`: 2 us when nothing is new.
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

from ingest.database import read, write
from trainer import command_queue
from trainer.commands import AnyCommand, parse
from trainer.references import CommandRefused, MixVersion, find_mix, mix_of
from trainer.tables import Command

log = structlog.get_logger()

LOOK_EVERY_S = 0.01
# The listener holds the lock for one read, 1 ms; a boundary that can't have it goes on without.
LOCK_TIMEOUT_S = 0.02


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
        self._waiting: deque[Received] = deque()
        self._unmarked: list[str] = []
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._closed = threading.Event()
        self._is_away = False
        self._thread = threading.Thread(target=self._listen, name="inbox", daemon=True)
        self._thread.start()

    def take(self) -> list[Received]:
        """Everything committed up to now and not taken yet, in order, without waiting."""
        if self._lock.acquire(timeout=LOCK_TIMEOUT_S):
            try:
                self._look()
            finally:
                self._lock.release()
        self._arrived.clear()
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def wait(self, timeout_s: float) -> None:
        """Return when something has arrived, or after `timeout_s`."""
        self._arrived.wait(timeout_s)

    def _listen(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            with self._lock:
                self._look()
                unmarked, self._unmarked = self._unmarked, []
            if unmarked and not self._mark(unmarked):
                with self._lock:
                    self._unmarked = unmarked + self._unmarked

    def _look(self) -> None:
        """Take over what is new; the lock is held."""
        try:
            version = self._versions.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return
            with read(self._engine) as session:
                rows = command_queue.unsettled(session, self._run_id, after=self._last_number)
                received = [_receive(session, row) for row in rows]
        except (OperationalError, sqlite3.OperationalError) as error:
            self._note_outage(error)
            return
        self._is_away = False
        self._version = version
        if received:
            self._last_number = received[-1].number
            self._waiting.extend(received)
            self._unmarked.extend(command.command_id for command in received)
            self._arrived.set()

    def _mark(self, command_ids: list[str]) -> bool:
        try:
            with write(self._engine) as session:
                command_queue.mark_received(session, command_ids, time.time())
        except OperationalError as error:
            self._note_outage(error)
            return False
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
