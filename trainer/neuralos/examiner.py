"""Judges checkpoints of NeuralOS on replayed episodes of the `eval` split, the newest first.

An exam is prepared once for a suite and the episodes that there are, and kept for the next models.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import orjson
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from ingest.actions import Action
from ingest.cut import episode_actions
from ingest.database import read
from ingest.settings import Settings
from ingest.sources import released
from ingest.tables import Episode, SessionRow
from trainer.family import Judgement
from trainer.neuralos.encoder import SHIPPED, load
from trainer.neuralos.evaluate import Exam, judge, prepare
from trainer.neuralos.model import NeuralOS

EXAMS_KEPT = 4


class NeuralOSExaminer:
    """A `trainer.family.Examiner` of the suites in `neuralos.evaluate`."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._exam = lru_cache(maxsize=EXAMS_KEPT)(self._prepare)

    def judge(self, suite: str, checkpoint: Path, environment: str) -> Judgement:
        """Judge one model; see `neuralos.evaluate.SuiteResult`."""
        with read(self._engine) as session:
            episode_ids = _held_out(session, environment)
        result = judge(NeuralOS.load(checkpoint), self._exam(suite, episode_ids))
        return Judgement(result.to_json(), {"balanced_accuracy": result.balanced_accuracy})

    def _prepare(self, suite: str, episode_ids: tuple[str, ...]) -> Exam:
        encoder = load(self._settings.encoder or SHIPPED)
        return prepare(encoder, suite, self._actions(episode_ids))

    def _actions(self, episode_ids: tuple[str, ...]) -> Iterator[list[Action]]:
        for episode_id in episode_ids:
            with read(self._engine) as session:
                rows = episode_actions(session, episode_id).recorded
            yield [Action.from_payload(orjson.loads(row.payload_json)) for row in rows]


def _held_out(session: Session, environment: str) -> tuple[str, ...]:
    """Whole replayed episodes of the `eval` split and of released sources, newest first."""
    return tuple(
        session.scalars(
            select(Episode.episode_id)
            .join(SessionRow, SessionRow.session_key == Episode.session_key)
            .where(
                SessionRow.split == "eval",
                SessionRow.source.in_(released()),
                Episode.state == "replayed",
                Episode.environment == environment,
                Episode.num_unrecorded == 0,
            )
            .order_by(Episode.last_timestamp.desc(), Episode.episode_id)
        )
    )
