"""Who runs a run: one holder at a time, by a lease with a fencing number on the run's row.

In: a run. Out: a `Lease` whose `fence` is larger than any holder's before. Guaranteed: while a
lease lives, a second holder is refused; once another has taken over, nothing that the older one
writes is committed, for every transaction of a holder first calls `assert_held`.
"""

import threading
import time
from contextlib import suppress
from typing import Self

import structlog
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.database import write
from trainer.journal.holder import has_died, this_process
from trainer.tables import Run

log = structlog.get_logger()

LIVE_STATES = ("starting", "running", "paused", "stopping")
CLOSE_TIMEOUT_S = 1.0
GRACE_S = 30.0


class RunHeld(RuntimeError):
    """Another process holds the run."""


class LeaseLost(RuntimeError):
    """Another process has taken the run over; this one must write nothing more."""


class Lease:
    """A held run, kept by a thread that renews it every third of `lease_s`."""

    def __init__(self, engine: Engine, run_id: str, *, lease_s: float) -> None:
        """Take the run over; RunHeld while somebody else's lease lives."""
        self.run_id = run_id
        self.is_lost = threading.Event()
        self._engine = engine
        self._lease_s = lease_s
        self._closed = threading.Event()
        self.fence = self._acquire()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def _acquire(self) -> int:
        now = time.time()
        with write(self._engine) as session:
            run = session.get_one(Run, self.run_id, with_for_update=True)
            if _lives(run, now):
                raise RunHeld(f"run {run.name!r} is held by process {run.holder}; stop it first")
            run.holder = this_process()
            run.lease_expires_at = now + self._lease_s
            run.fence += 1
            return run.fence

    def assert_held(self, session: Session) -> None:
        """Raise LeaseLost if another process has taken the run over; none does until the end."""
        mine = select(Run.fence).where(Run.run_id == self.run_id)
        fence = session.scalar(mine.with_for_update(key_share=True))
        if fence != self.fence:
            self.is_lost.set()
        self.assert_not_lost()

    def assert_not_lost(self) -> None:
        """Raise LeaseLost if a take-over was seen already; asks nobody."""
        if self.is_lost.is_set():
            raise LeaseLost(f"run {self.run_id} was taken over; this process writes nothing more")

    def _renew(self) -> None:
        while not self._closed.wait(self._lease_s / 3):
            try:
                self._extend()
            except OperationalError as error:  # the database is away: tried again in a third
                log.warning("lease_renewal_delayed", run_id=self.run_id, reason=str(error.orig))
            except LeaseLost:
                log.warning("lease_lost", run_id=self.run_id, fence=self.fence)
                return

    def _extend(self) -> None:
        expires_at = time.time() + self._lease_s
        with write(self._engine) as session:
            self.assert_held(session)
            mine = update(Run).where(Run.run_id == self.run_id)
            session.execute(mine.values(holder=this_process(), lease_expires_at=expires_at))

    def close(self) -> None:
        """Give the run free, if it is still ours; without a database it is when the lease ends."""
        self._closed.set()
        self._thread.join(timeout=CLOSE_TIMEOUT_S)
        try:
            with suppress(LeaseLost), write(self._engine) as session:
                self.assert_held(session)
                mine = update(Run).where(Run.run_id == self.run_id)
                session.execute(mine.values(holder=None, lease_expires_at=None))
        except OperationalError as error:
            log.warning("lease_not_given_free", run_id=self.run_id, reason=str(error.orig))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _lives(run: Run, now: float) -> bool:
    if run.holder is None or run.lease_expires_at is None or run.lease_expires_at < now:
        return False
    return not has_died(run.holder)


def _is_lost(run: Run, now: float) -> bool:
    """Whether a live run has no holder; a new one gets a moment to find its first."""
    return not _lives(run, now) and (run.holder is not None or run.updated_at < now - GRACE_S)


def mark_lost(session: Session, now: float) -> list[str]:
    """Call runs `lost` whose holder has died; whoever restarts such a run takes it over."""
    live = select(Run).where(Run.state.in_(LIVE_STATES)).with_for_update(skip_locked=True)
    lost = [run for run in session.scalars(live) if _is_lost(run, now)]
    for run in lost:
        run.state = "lost"
        run.updated_at = now
    return [run.run_id for run in lost]
