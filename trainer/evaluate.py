"""The evaluation worker: held-out sessions judge checkpoints, in a process of its own.

In: evaluations that wait, and replayed episodes of the `eval` split, newest first. Out: the result
beside its checkpoint, and its headline as a metric of the checkpoint's step. Guaranteed: a training
run never waits for it; a dead worker's claim returns after 10 minutes, and an evaluation that fails
3 times is `failed` with its error. torch is loaded when the first evaluation comes.
"""

import json
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from sqlalchemy import Engine, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.actions import Action
from ingest.cut import episode_actions
from ingest.database import open_engine, read, write
from ingest.process import begin_process
from ingest.settings import Settings
from ingest.tables import Episode, SessionRow
from trainer.tables import Checkpoint, Evaluation, Metric, Run

if TYPE_CHECKING:
    from trainer.neuralos.evaluate import Exam

log = structlog.get_logger()

LEASE_S = 600.0
MAX_ATTEMPTS = 3
POLL_S = 0.5
OUTAGE_WAIT_S = 2.0
EXAMS_KEPT = 4


class EvaluationWorker:
    """Judges what waits, one evaluation at a time."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._exam = lru_cache(maxsize=EXAMS_KEPT)(self._prepare)

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
            result = self._judge(claimed)
        except (OSError, ValueError, RuntimeError) as error:
            log.warning("evaluation_failed", evaluation_id=claimed.evaluation_id, error=str(error))
            self._fail(claimed, f"{type(error).__name__}: {error}")
            return True
        self._finish(claimed, result)
        return True

    def _judge(self, claimed: Evaluation) -> dict[str, Any]:
        from trainer.neuralos.evaluate import judge
        from trainer.neuralos.model import NeuralOS

        with read(self._engine) as session:
            checkpoint = session.get_one(Checkpoint, claimed.checkpoint_id)
            environment = session.get_one(Run, claimed.run_id).environment
            episode_ids = _held_out(session, environment)
        model = NeuralOS.load(self._settings.runs_path / checkpoint.path)
        return judge(model, self._exam(claimed.suite, episode_ids)).to_json()

    def _prepare(self, suite: str, episode_ids: tuple[str, ...]) -> "Exam":
        from trainer.neuralos.encoder import SHIPPED, load
        from trainer.neuralos.evaluate import prepare

        encoder = load(self._settings.encoder or SHIPPED)
        return prepare(encoder, suite, self._actions(episode_ids))

    def _actions(self, episode_ids: tuple[str, ...]) -> Iterator[list[Action]]:
        for episode_id in episode_ids:
            with read(self._engine) as session:
                rows = episode_actions(session, episode_id).recorded
            yield [Action.from_payload(orjson.loads(row.payload_json)) for row in rows]

    def _finish(self, claimed: Evaluation, result: dict[str, Any]) -> None:
        with write(self._engine) as session:
            values = {"state": "done", "result_json": json.dumps(result), "error": None}
            if not _settle(session, claimed, values | {"finished_at": time.time()}):
                return
            checkpoint = session.get_one(Checkpoint, claimed.checkpoint_id)
            session.merge(
                Metric(
                    run_id=checkpoint.run_id,
                    branch=checkpoint.branch,
                    step=checkpoint.step,
                    name=f"eval:{claimed.suite}:balanced_accuracy",
                    value=result["balanced_accuracy"],
                )
            )
        log.info(
            "evaluation_done", suite=claimed.suite, accuracy=round(result["balanced_accuracy"], 4)
        )

    def _fail(self, claimed: Evaluation, error: str) -> None:
        is_last = claimed.attempts >= MAX_ATTEMPTS
        with write(self._engine) as session:
            values: dict[str, Any] = {"state": "failed" if is_last else "waiting", "error": error}
            _settle(session, claimed, values | ({"finished_at": time.time()} if is_last else {}))


def _claim(session: Session, now: float) -> Evaluation | None:
    """The oldest that waits or whose worker is gone, leased; a spent one is failed on the way."""
    is_free = or_(
        Evaluation.state == "waiting",
        (Evaluation.state == "leased") & (Evaluation.lease_expires_at < now),
    )
    query = select(Evaluation).where(is_free).order_by(Evaluation.created_at).limit(1)
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


def _held_out(session: Session, environment: str) -> tuple[str, ...]:
    """Whole replayed episodes of the `eval` split, newest first."""
    return tuple(
        session.scalars(
            select(Episode.episode_id)
            .join(SessionRow, SessionRow.session_key == Episode.session_key)
            .where(
                SessionRow.split == "eval",
                Episode.state == "replayed",
                Episode.environment == environment,
                Episode.num_unrecorded == 0,
            )
            .order_by(Episode.last_timestamp.desc(), Episode.episode_id)
        )
    )


def main() -> None:
    """Run one worker on this machine until SIGTERM or SIGINT."""
    settings = Settings()
    stop = begin_process()
    engine = open_engine(settings.resolved_database_url)
    EvaluationWorker(engine, settings).run(stop)
    engine.dispose()


if __name__ == "__main__":
    main()
