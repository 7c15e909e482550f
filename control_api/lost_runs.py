"""Calls a run `lost` once its process has died or its lease has run out, so that everybody sees it.

In: the runs' leases. Out: the state `lost`, within CHECK_EVERY_S of what caused it. It never ends a
run: whoever starts it again takes it over.
"""

import threading
import time
from typing import Self

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from ingest.database import write
from trainer.journal.lease import mark_lost

CHECK_EVERY_S = 2.0

log = structlog.get_logger()


class LostRuns:
    """A thread that looks after the runs' leases while it is open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lost-runs", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._closed.wait(CHECK_EVERY_S):
            try:
                with write(self._engine) as session:
                    lost = mark_lost(session, time.time())
            except OperationalError as error:
                log.warning("lost_runs_not_checked", reason=str(error.orig))
                continue
            for run_id in lost:
                log.warning("run_lost", run_id=run_id)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(timeout=1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
