"""`stovetop verify`: all checks of an installation, one after the other, and the mends if asked.

In: an installation's settings. Out: a verdict: what was looked at and each finding. It may run
while everything works. It is a command and no route, for it reads every byte that is kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Engine

from control_api.audit import local_caller, record
from ingest.database import open_engine, write
from ingest.integrity.files import check_files
from ingest.integrity.finding import Finding, Seen
from ingest.integrity.repair import Repair
from ingest.integrity.rows import check_counters, check_episodes, check_sessions
from ingest.integrity.shards import check_shards
from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from trainer.checkpoints.integrity import check_checkpoints


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding, and whether it was mended."""

    finding: Finding
    is_mended: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at, by noun, and what was found."""

    seen: Seen = field(default_factory=Seen)
    judged: list[Judged] = field(default_factory=list)

    @property
    def num_open(self) -> int:
        """How many findings are not mended."""
        return sum(not each.is_mended for each in self.judged)


def verify(
    settings: Settings, *, repair: bool, tell: Callable[[Judged], None] = lambda _: None
) -> Verdict:
    """Check an installation whose schema is the newest; `tell` hears of each finding at once.

    Raises OSError where the whole store of the shards is away.
    """
    engine, store = open_engine(settings.resolved_database_url), open_store(settings)
    verdict = Verdict()
    mending = Repair(engine, store)
    try:
        for finding in _findings(engine, store, settings, verdict.seen):
            judged = Judged(finding, is_mended=repair and mending.mend(finding))
            verdict.judged.append(judged)
            tell(judged)
        if any(each.is_mended for each in verdict.judged):
            _write_down(engine, verdict)
    finally:
        engine.dispose()
    return verdict


def _findings(
    engine: Engine, store: ShardStore, settings: Settings, seen: Seen
) -> Iterator[Finding]:
    yield from check_counters(engine, seen)
    yield from check_shards(engine, store, seen)
    yield from check_files(engine, store, seen)
    yield from check_sessions(engine, seen)
    yield from check_episodes(engine, seen)
    yield from check_checkpoints(engine, settings.runs_path, seen)


def _write_down(engine: Engine, verdict: Verdict) -> None:
    mended = Seen(each.finding.kind for each in verdict.judged if each.is_mended)
    with write(engine) as session:
        record(session, local_caller(), "buffer.repair", "all", **mended)
