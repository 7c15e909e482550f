"""A run's health in SQL: what a line has behind it, and the signals that start or end on it.

In: a branch and a step. Out: the readings before it and the signals that were on, over the branch's
ancestors; rows written. A line is a branch from its fork on and its ancestors up to theirs, so
what was seen on a line that a rollback has left is none of it.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from trainer.health.detectors import DETECTORS, HISTORY
from trainer.health.reading import Reading
from trainer.health.signals import Signal, Since
from trainer.journal.metrics import HEALTH_METRIC, SHARE_WANTED
from trainer.tables import Branch, HealthSignal, Metric, Run

_READ = ("loss", "grad_norm", "step_s", "starved", "update_ratio")


def line_of(session: Session, run_id: str, branch: str, before: int) -> Iterator[tuple[str, int]]:
    """The branches of a line, the youngest first, each with its last step on the line."""
    name: str | None = branch
    last = before - 1
    while name is not None:
        yield name, last
        row = session.get_one(Branch, (run_id, name))
        name, last = row.parent, min(last, row.from_step)


def on_line(
    line: Iterable[tuple[str, int]],
    branch: InstrumentedAttribute[str],
    step: InstrumentedAttribute[int],
) -> ColumnElement[bool]:
    """Which rows are of a line."""
    return or_(*(and_(branch == name, step <= last) for name, last in line))


def read_past(
    session: Session, run_id: str, branch: str, before: int, mix: Mapping[str, float]
) -> list[Reading]:
    """The last readings of a line before a step, as far back as its mix was this one."""
    shares = {SHARE_WANTED + name: name for name in mix}
    rows = session.execute(
        select(Metric.step, Metric.name, Metric.value).where(
            Metric.run_id == run_id,
            Metric.name.in_([*_READ, *shares]),
            Metric.step >= before - HISTORY,
            on_line(line_of(session, run_id, branch, before), Metric.branch, Metric.step),
        )
    )
    steps: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for step, name, value in rows:
        steps[step][name] = math.nan if value is None else value
    past: list[Reading] = []
    for step in sorted(steps, reverse=True):
        numbers = steps[step]
        if {name: numbers.get(key) for key, name in shares.items()} != dict(mix):
            break
        past.append(_reading(step, numbers, mix))
    return past[::-1]


def _reading(step: int, numbers: Mapping[str, float], mix: Mapping[str, float]) -> Reading:
    return Reading(
        step=step,
        loss=numbers["loss"],
        grad_norm=numbers.get("grad_norm"),
        step_s=numbers["step_s"],
        num_starved=int(numbers["starved"]),
        update_ratio=numbers.get("update_ratio"),
        mix=mix,
    )


def read_on(session: Session, run_id: str, branch: str, before: int) -> dict[str, Since]:
    """The signals that were on at the end of the step before, by name."""
    line = line_of(session, run_id, branch, before)
    rows = session.execute(
        select(HealthSignal.name, HealthSignal.state, HealthSignal.step, HealthSignal.threshold)
        .where(
            HealthSignal.run_id == run_id,
            on_line(line, HealthSignal.branch, HealthSignal.step),
        )
        .order_by(HealthSignal.step)
    )
    on: dict[str, Since] = {}
    for name, state, step, threshold in rows:
        if state == "started":
            on[name] = Since(step, threshold)
        else:
            on.pop(name, None)
    return on


def forget(session: Session, run_id: str, branch: str, since: int) -> None:
    """Drop what was said of steps that are taken again, from `since` on; answered signals stay."""
    session.execute(
        delete(HealthSignal).where(
            HealthSignal.run_id == run_id,
            HealthSignal.branch == branch,
            HealthSignal.step >= since,
            HealthSignal.command_id.is_(None),
        )
    )
    session.execute(
        delete(Metric).where(
            Metric.run_id == run_id,
            Metric.branch == branch,
            Metric.name.in_([HEALTH_METRIC + name for name in DETECTORS]),
            Metric.step >= since,
        )
    )


def write_signals(
    session: Session, run_id: str, branch: str, signals: Iterable[Signal], at: float
) -> None:
    """Upsert signals; a policy's answer to one stays with it."""
    for signal in signals:
        row = {
            "run_id": run_id,
            "branch": branch,
            "step": signal.step,
            "name": signal.name,
            "state": signal.state,
            "value": None if math.isnan(signal.value) else signal.value,
            "threshold": signal.threshold,
            "message": signal.message,
            "at": at,
        }
        session.execute(_UPSERT_SIGNAL, row)


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a signal that is on at a step."""

    branch: str
    step: int
    name: str
    value: float


def write_values(session: Session, run_id: str, values: Sequence[Value]) -> None:
    """Upsert the metrics of signals that are on."""
    rows = [
        {
            "run_id": run_id,
            "branch": each.branch,
            "name": HEALTH_METRIC + each.name,
            "step": each.step,
            "value": None if math.isnan(each.value) else each.value,
        }
        for each in values
    ]
    if rows:
        session.execute(_UPSERT_VALUE, rows)


def write_on(session: Session, run_id: str, on: Iterable[str]) -> None:
    """Show on the run's row which signals are on."""
    session.execute(update(Run).where(Run.run_id == run_id).values(signals=" ".join(sorted(on))))


_UPSERT_SIGNAL = text(
    "INSERT INTO health_signals "
    "(run_id, branch, step, name, state, value, threshold, message, at) "
    "VALUES (:run_id, :branch, :step, :name, :state, :value, :threshold, :message, :at) "
    "ON CONFLICT (run_id, branch, step, name) DO UPDATE SET state = excluded.state, "
    "value = excluded.value, threshold = excluded.threshold, message = excluded.message, "
    "at = excluded.at"
)
_UPSERT_VALUE = text(
    "INSERT INTO metrics (run_id, branch, name, step, value) "
    "VALUES (:run_id, :branch, :name, :step, :value) "
    "ON CONFLICT (run_id, branch, name, step) DO UPDATE SET value = excluded.value"
)
