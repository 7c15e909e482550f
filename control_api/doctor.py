"""What is wrong with an installation, and what to do about it: `stovetop doctor`.

In: an installation's settings. Out: findings, in the order of a datum's way. Guaranteed: nothing
is changed or made, and it says something whatever is away. Decision: that a stage stands still is
seen by its work, not by its processes: wherever they run, what they should take waits too long.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, func, or_, select
from sqlalchemy.orm import Session

from control_api.health import check_database
from control_api.stages import next_offsets
from ingest.database import open_engine, read
from ingest.log import EventLog, LogUnavailable, open_log
from ingest.settings import Settings
from ingest.tables import ApiKey, DeadLetter, Episode, LogOffset, SessionRow, Shard, Source
from trainer.tables import Run

STANDSTILL_S = 60.0  # work that a stage takes within seconds
REPLAY_WAIT_S = 600.0
LOG_LOOK_S = 3.0
LOOK_EVERY_S = 0.1
RECENT_S = 86_400.0
EXPIRES_WITHIN_S = 7 * 86_400.0
LOW_DISK = 1 << 30  # bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and the fix."""

    subject: str
    detail: str
    fix: str


def examine(settings: Settings, *, now: float | None = None) -> list[Finding]:
    """Look at everything once; `now` is the wall clock, seconds. An empty list is a sound one."""
    if settings.database_url is None and not settings.data.is_dir():
        return [Finding("data", f"{settings.data} is not there", "name the folder with --data")]
    engine = open_engine(settings.resolved_database_url)
    try:
        return list(_findings(engine, settings, time.time() if now is None else now))
    finally:
        engine.dispose()


def _findings(engine: Engine, settings: Settings, now: float) -> Iterator[Finding]:
    yield from _disk(settings)
    checks = check_database(engine)
    for subject, found in checks.items():
        if found != "ok":
            fix = "run `stovetop db upgrade`" if checks["database"] == "ok" else "start it"
            yield Finding(subject, found, fix)
    if set(checks.values()) != {"ok"}:
        return
    yield from _log(engine, settings)
    with read(engine) as session:
        for check in CHECKS:
            yield from check(session, now)


def _disk(settings: Settings) -> Iterator[Finding]:
    if settings.data.is_dir() and (free := shutil.disk_usage(settings.data).free) < LOW_DISK:
        yield Finding(
            "disk",
            f"{free >> 20} MiB are free at {settings.data}",
            "make room: what can't be written waits, and events are refused",
        )


def _log(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """The event log, if anything ever came by it: to open one that is not there would make it."""
    with read(engine) as session:
        if session.scalar(select(LogOffset.log_id).limit(1)) is None:
            return
    if settings.kafka is None and not settings.event_log_path.exists():
        fix = "bring the file back, or `stovetop restore` a backup"
        yield Finding("log", f"{settings.event_log_path} is not there any more", fix)
        return
    try:
        with open_log(settings) as event_log:
            yield from _consumed(engine, event_log)
    except LogUnavailable as error:
        yield Finding("log", str(error), "start the brokers, or mend STOVETOP_KAFKA")


def _consumed(engine: Engine, event_log: EventLog) -> Iterator[Finding]:
    """Whether what waits becomes less, looked at for `LOG_LOOK_S`."""

    def offsets() -> Mapping[int, int]:
        with read(engine) as session:
            return next_offsets(session, event_log)

    before = offsets()
    num_waiting = event_log.num_waiting(before)
    deadline = time.monotonic() + LOG_LOOK_S
    while num_waiting and offsets() == before:
        if time.monotonic() > deadline:
            yield Finding(
                "consumer",
                f"{num_waiting} records wait in the event log and none is taken",
                "run `stovetop up`, or start `python -m ingest.consume`",
            )
            return
        time.sleep(LOOK_EVERY_S)


def _cut(session: Session, now: float) -> Iterator[Finding]:
    late = SessionRow.received_at < now - STANDSTILL_S
    if count := _count(session, SessionRow.needs_cut.is_(True), late):
        yield Finding(
            "consumer",
            f"{count} sessions with new events wait to be cut",
            "run `stovetop up`, or start `python -m ingest.consume`",
        )


def _replay(session: Session, now: float) -> Iterator[Finding]:
    late = Episode.session_key.in_(
        select(SessionRow.session_key).where(SessionRow.received_at < now - REPLAY_WAIT_S)
    )
    free = or_(Episode.state == "waiting", Episode.lease_expires_at < now - STANDSTILL_S)
    if count := _count(session, Episode.state.in_(("waiting", "leased")), free, late):
        yield Finding(
            "replay",
            f"{count} episodes wait to be replayed for over {REPLAY_WAIT_S / 60:g} minutes",
            "start more of `python -m ingest.replay.worker`",
        )
    if count := _count(session, Episode.state == "parked"):
        yield Finding(
            "replay",
            f"{count} episodes are parked: their replay failed three times",
            "`GET /v1/episodes?state=parked` says why",
        )


def _dead_letters(session: Session, now: float) -> Iterator[Finding]:
    recent = (
        select(DeadLetter.code, func.count())
        .where(DeadLetter.received_at > now - RECENT_S)
        .group_by(DeadLetter.code)
        .order_by(DeadLetter.code)
    )
    for code, count in session.execute(recent):
        yield Finding(
            "dead letters",
            f"{count} of the last day: {code}",
            f"`GET /v1/deadletters?code={code}` has the reasons and the bytes",
        )


def _sources(session: Session, _now: float) -> Iterator[Finding]:
    waiting = (
        select(Source.name)
        .where(Source.released_revision.is_(None))
        .where(Source.name.in_(select(SessionRow.source)))
        .order_by(Source.name)
    )
    for name in session.scalars(waiting):
        yield Finding(
            "sources",
            f"{name} sends, and nobody learns from it: it is in quarantine",
            f"`stovetop sources release {name}`, if you trust it",
        )


def _shards(session: Session, _now: float) -> Iterator[Finding]:
    if count := _count(session, Shard.state == "quarantined"):
        yield Finding(
            "shards",
            f"{count} are damaged and set apart",
            "`stovetop verify --repair` has them made anew",
        )


def _runs(session: Session, _now: float) -> Iterator[Finding]:
    broken = select(Run).where(Run.state.in_(("lost", "failed"))).order_by(Run.name)
    for run in session.scalars(broken):
        yield Finding(
            "runs",
            f"{run.name} is {run.state} at step {run.step}"
            + (f": {run.error}" if run.error else ""),
            f"start it again: `stovetop train --name {run.name}` goes on where it was",
        )


def _keys(session: Session, now: float) -> Iterator[Finding]:
    valid = (
        ApiKey.kind == "key",
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
    )
    if not _count(session, *valid):
        yield Finding("keys", "there is none", "`stovetop keys create --role ingest`")
    ending = select(ApiKey).where(*valid, ApiKey.expires_at < now + EXPIRES_WITHIN_S)
    for key in session.scalars(ending.order_by(ApiKey.key_id)):
        yield Finding(
            "keys",
            f"{key.key_id} ({key.role}, {key.source}) expires within a week",
            f"`stovetop keys create --role {key.role} --source {key.source}`",
        )


CHECKS: tuple[Callable[[Session, float], Iterator[Finding]], ...] = (
    _cut,
    _dead_letters,
    _replay,
    _sources,
    _shards,
    _runs,
    _keys,
)


def _count(session: Session, *where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).where(*where)) or 0
