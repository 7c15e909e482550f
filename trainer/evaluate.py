"""The evaluation worker: held-out sessions judge checkpoints, in a process of its own.

In: evaluations that wait; what they are judged by is the run's model family's to know. Out: the
result beside its checkpoint, and its headlines as metrics of the checkpoint's step. Guaranteed: a
training run never waits for it; a dead worker's claim returns after 10 minutes, and an evaluation
that fails 3 times is `failed` with its error. torch is loaded when the first evaluation comes.
"""

import json
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Engine, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.database import open_engine, read, write
from ingest.leases import is_over
from ingest.process import begin_process
from ingest.settings import Settings
from trainer.tables import Checkpoint, Evaluation, Metric, Run

if TYPE_CHECKING:
    from trainer.family import Examiner, Judgement

log = structlog.get_logger()

LEASE_S = 600.0
MAX_ATTEMPTS = 3
POLL_S = 0.5
OUTAGE_WAIT_S = 2.0


class EvaluationWorker:
    """Judges what waits, one evaluation at a time."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._examiner_of = cache(self._open_examiner)

    def run(self, stop: threading.Event) -> None:
        """Judge what comes until told to stop."""
        while not stop.is_set():
            try:
                if not self.evaluate_next():
                    stop.wait(POLL_S)
            except OperationalError as error:
                log.warning("evaluation_waits", reason=str(error))
                stop.wait(OUTAGE_WAIT_S)

    def evaluate_next(self) -> bool:
        """Judge one; False when none waits. Raises OperationalError where the database is away."""
        with write(self._engine) as session:
            claimed = _claim(session, time.time())
        if claimed is None:
            return False
        try:
            judgement = self._judge(claimed)
        except (OSError, ValueError, RuntimeError) as error:
            log.warning("evaluation_failed", evaluation_id=claimed.evaluation_id, error=str(error))
            self._fail(claimed, f"{type(error).__name__}: {error}")
            return True
        self._finish(claimed, judgement)
        return True

    def _judge(self, claimed: Evaluation) -> "Judgement":
        with read(self._engine) as session:
            checkpoint = session.get_one(Checkpoint, claimed.checkpoint_id)
            run = session.get_one(Run, claimed.run_id)
        examiner = self._examiner_of(run.recipe)
        folder = self._settings.runs_path / checkpoint.path
        return examiner.judge(claimed.suite, folder, run.environment)

    def _open_examiner(self, recipe: str) -> "Examiner":
        from trainer.family import open_family

        return open_family(recipe).open_examiner(self._engine, self._settings)

    def _finish(self, claimed: Evaluation, judgement: "Judgement") -> None:
        result_json = json.dumps(judgement.result)
        with write(self._engine) as session:
            values = {"state": "done", "result_json": result_json, "error": None}
            if not _settle(session, claimed, values | {"finished_at": time.time()}):
                return
            checkpoint = session.get_one(Checkpoint, claimed.checkpoint_id)
            for name, value in judgement.metrics.items():
                session.merge(
                    Metric(
                        run_id=checkpoint.run_id,
                        branch=checkpoint.branch,
                        step=checkpoint.step,
                        name=f"eval:{claimed.suite}:{name}",
                        value=value,
                    )
                )
        log.info("evaluation_done", suite=claimed.suite, **judgement.metrics)

    def _fail(self, claimed: Evaluation, error: str) -> None:
        is_last = claimed.attempts >= MAX_ATTEMPTS
        with write(self._engine) as session:
            values: dict[str, Any] = {"state": "failed" if is_last else "waiting", "error": error}
            _settle(session, claimed, values | ({"finished_at": time.time()} if is_last else {}))


def _claim(session: Session, now: float) -> Evaluation | None:
    """The oldest that waits or whose worker is gone, leased; a spent one is failed on the way."""
    is_free = or_(
        Evaluation.state == "waiting",
        (Evaluation.state == "leased")
        & is_over(Evaluation.lease_expires_at, now=now, lease_s=LEASE_S),
    )
    oldest = select(Evaluation).where(is_free).order_by(Evaluation.created_at).limit(1)
    query = oldest.with_for_update(skip_locked=True)
    while (row := session.scalars(query).first()) is not None:
        if row.attempts < MAX_ATTEMPTS:
            row.state, row.attempts, row.lease_expires_at = (
                "leased",
                row.attempts + 1,
                now + LEASE_S,
            )
            return row
        row.state, row.finished_at = "failed", now
        row.error = row.error or f"its worker died {MAX_ATTEMPTS} times"
        session.flush()
    return None


def _settle(session: Session, claimed: Evaluation, values: dict[str, Any]) -> bool:
    """Write how it went, unless somebody else has claimed it since."""
    settled = session.execute(
        update(Evaluation)
        .where(
            Evaluation.evaluation_id == claimed.evaluation_id,
            Evaluation.state == "leased",
            Evaluation.attempts == claimed.attempts,
        )
        .values(**values)
        .returning(Evaluation.evaluation_id)
    )
    return settled.first() is not None


def main() -> None:
    """Run one worker on this machine until SIGTERM or SIGINT."""
    settings = Settings()
    stop = begin_process(settings)
    engine = open_engine(settings.resolved_database_url)
    EvaluationWorker(engine, settings).run(stop)
    engine.dispose()


if __name__ == "__main__":
    main()
