"""Reception: commands that are new in SQL come into the trainer's memory, each once, in order.

In: the run's unsettled commands. Out: `take` at a step boundary gives all that were committed
before it. A listener thread looks when something was announced (SQLite: every 25 ms); the boundary
looks too, which costs 2 us on SQLite and one round trip on PostgreSQL (`Lookout`). Whoever finds a
command claims it: writes `received`, and only what it got is taken, for until then anybody may
cancel it. Nothing is taken between the two, so what anybody saw as `received` is taken at the next
boundary, even if the database is away by then. The listener's claim never waits for SQL's lock; a
boundary waits for it at most 5 x 50 ms in an outage, however long that is, and what it could not
claim stays `pending` until the listener can.
Where several processes train, the listener claims only while all of them know that the next
boundary obeys (`is_awaited`).
"""

import json
import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import Self

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.database import Unreachable, open_engine, open_lookout, read, write
from trainer.commands import queue as command_queue
from trainer.commands.kinds import AnyCommand, parse
from trainer.commands.references import CommandRefused, MixVersion, find_mix, mix_of
from trainer.tables import UNSETTLED, Command

log = structlog.get_logger()

# Others write for at most 20 ms; the command that comes amid it must not miss its boundary.
CLAIM_TIMEOUT_S = 0.05
CLAIM_TRIES = 5
_LATER = (
    "SELECT 1 FROM commands WHERE run_id = $1 AND number > $2 AND state IN ($3, $4, $5) LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Received:
    """A command in the trainer's hands, with the mix that it names, or why it can not be taken."""

    command_id: str
    number: int
    command: AnyCommand | None
    mix: MixVersion | None = None
    max_lr_factor: float | None = None
    refusal: str | None = None


class Inbox:
    """The commands of one run after `after`, its listener, and the boundary's own look."""

    def __init__(self, engine: Engine, run_id: str, *, after: int) -> None:
        self._engine = engine
        self._run_id = run_id
        self._last_number = after
        self._lookout = open_lookout(engine, _LATER, channel=command_queue.CHANNEL, word=run_id)
        self._patient = open_engine(engine.url, busy_timeout_s=CLAIM_TIMEOUT_S)
        self._impatient = open_engine(engine.url, busy_timeout_s=0.0)
        self._tries_left = 0
        self._may_claim = True
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

        It waits for a claim that is under way, which is one short commit.
        """
        with self._lock:
            self._look()
            if self._tries_left:
                self._tries_left -= 1
                self._claim(self._patient)
            self._arrived.clear()
            return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def is_awaited(self, *, is_obeyed_anyway: bool) -> bool:
        """Whether the next boundary obeys, which is said now or not at all: something waits for it.

        Until the next call, a step later, the listener claims only where it does.
        """
        with self._lock:
            self._look()
            self._may_claim = is_obeyed_anyway or bool(self._found or self._waiting)
            return self._may_claim

    def wait(self, timeout_s: float) -> None:
        """Return when something has arrived, or after `timeout_s`."""
        self._arrived.wait(timeout_s)

    def _listen(self) -> None:
        with closing(self._lookout):
            while not self._closed.is_set():
                self._lookout.wait()
                with self._lock:
                    self._look()
                    if self._may_claim:
                        self._claim(self._impatient)

    def _look(self) -> None:
        """Find what is new; the lock is held."""
        try:
            received = self._read() if self._has_news() else []
        except (OperationalError, Unreachable) as error:
            self._note_outage(error)
            return
        self._is_away = False
        if received:
            self._last_number = received[-1].number
            self._found += received
            self._tries_left = CLAIM_TRIES

    def _has_news(self) -> bool:
        """Whether there is a later command to take: most commits are the journal's own."""
        return self._lookout.sees(self._run_id, self._last_number, *UNSETTLED)

    def _read(self) -> list[Received]:
        with read(self._engine) as session:
            rows = command_queue.unsettled(session, self._run_id, after=self._last_number)
            return [_receive(session, row) for row in rows]

    def _claim(self, engine: Engine) -> None:
        """Make what was found the run's own, unless it was cancelled; the lock is held."""
        if not self._found:
            return
        found = [command.command_id for command in self._found]
        try:
            with write(engine) as session:
                own = command_queue.mark_received(session, found, time.time())
        except OperationalError:
            return  # somebody writes, or the database is away: they stay found for the next claim
        self._waiting.extend(command for command in self._found if command.command_id in own)
        self._found.clear()
        self._tries_left = 0
        self._arrived.set()

    def _note_outage(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("inbox_database_away", run_id=self._run_id, reason=str(error))
        self._is_away = True

    def close(self) -> None:
        """End the listener."""
        self._closed.set()
        self._thread.join(timeout=1.0)
        self._patient.dispose()
        self._impatient.dispose()

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
    return Received(row.command_id, row.number, command, mix, row.max_lr_factor)
