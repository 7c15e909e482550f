"""The watch over a run's health: it reads what the journal writes, in the journal's own thread.

In: the entries of a transaction, after they were written. Out: the signals that start or end with
them and a policy's answer, in the same transaction: SQL never holds a step without what it
means, and no answer is lost or given twice. No step waits for it. Decision: the detectors' state is
a cache of what SQL holds. Where a step does not follow the last one seen (a start, a rollback, a
transaction that is tried again) it is recomputed from the recorded steps: 14 ms, once. So it is in
no checkpoint, and one that was made before a detector was changed restores as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from trainer.health import rows as health_rows
from trainer.health.answers import Answers
from trainer.health.policy import Policy
from trainer.health.reading import Reading
from trainer.health.rows import Value
from trainer.health.signals import Health, Signal
from trainer.journal.entries import Entry, RunStarved, StepTaken

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Place:
    branch: str
    step: int


class HealthWatch:
    """One run's watch; `policy` answers its signals."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._answers = None if policy is None else Answers(policy)
        self._health = Health()
        self._place: _Place | None = None
        self._is_shown = False  # which signals are on, on the run's row
        self._is_off = False

    def see(self, session: Session, run_id: str, entries: Sequence[Entry]) -> None:
        """Judge what was written; an error of ours turns the watch off and ends no run."""
        seen = [entry for entry in entries if isinstance(entry, StepTaken | RunStarved)]
        if self._is_off or not seen:
            return
        try:
            with session.begin_nested():
                self._judge(session, run_id, seen)
        except OperationalError:  # the journal tries all of it again
            raise
        except Exception:
            log.exception("health_failed", run_id=run_id)
            self._is_off = True

    def _judge(self, session: Session, run_id: str, seen: Sequence[StepTaken | RunStarved]) -> None:
        values: list[Value] = []
        for entry in seen:
            if isinstance(entry, StepTaken):
                values += self._read(session, run_id, entry)
            else:
                self._starve(session, run_id, entry)
        health_rows.write_values(session, run_id, values)
        on = self._health.on
        if not self._is_shown:
            health_rows.write_on(session, run_id, on)
            self._is_shown = True
        if self._answers is not None and self._place is not None:
            self._answers.give(session, run_id, self._place.branch, self._place.step, on)

    def _read(self, session: Session, run_id: str, taken: StepTaken) -> list[Value]:
        if self._place != _Place(taken.branch, taken.step - 1):
            self._recompute(session, run_id, taken)
        self._place = _Place(taken.branch, taken.step)
        signals = self._health.read(_reading(taken))
        self._say(session, run_id, taken.branch, signals, taken.finished_at)
        values = self._health.values.items()
        return [Value(taken.branch, taken.step, name, value) for name, value in values]

    def _recompute(self, session: Session, run_id: str, taken: StepTaken) -> None:
        branch, step = taken.branch, taken.step
        health_rows.forget(session, run_id, branch, step)
        past = health_rows.read_past(session, run_id, branch, step, taken.mix.wanted)
        self._health = Health(past, health_rows.read_on(session, run_id, branch, step))
        self._is_shown = False

    def _starve(self, session: Session, run_id: str, starved: RunStarved) -> None:
        if self._place != _Place(starved.branch, starved.step):
            return  # the run has just moved; its next step tells
        signals = self._health.starve(starved.step, starved.reason)
        self._say(session, run_id, starved.branch, signals, starved.at)

    def _say(
        self, session: Session, run_id: str, branch: str, signals: Sequence[Signal], at: float
    ) -> None:
        if signals:
            health_rows.write_signals(session, run_id, branch, signals, at)
            self._is_shown = False


def _reading(taken: StepTaken) -> Reading:
    return Reading(
        step=taken.step,
        loss=taken.loss,
        grad_norm=taken.grad_norm,
        step_s=taken.finished_at - taken.started_at,
        num_starved=len(taken.mix.starved),
        update_ratio=taken.update_ratio,
        mix=taken.mix.wanted,
    )
