"""An installation with some of everything, for tests of what must not be lost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from control_api.verify import Verdict, verify
from ingest.buffer import DOCUMENT, FRAME
from ingest.database import read
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.worker import ReplayWorker
from ingest.tables import Placement, Sample, Shard
from tests.intake import Intake, wire_event

SIZE = (64, 48)
END = {"kind": "end", "payload": None}


@dataclass(frozen=True)
class Stocked:
    """One installation."""

    intake: Intake

    def work(self) -> None:
        """Let the workers do all there is to do."""
        self.intake.consume()
        with ReplayWorker(
            self.intake.engine, self.intake.settings, lambda: DrawnDesktop(*SIZE)
        ) as worker:
            while worker.replay_next():
                pass

    def files(self) -> dict[str, bytes]:
        """All shards' bytes by path."""
        folder = self.intake.settings.shards_path
        return {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.tar")
        }

    def places(self) -> dict[tuple[str, int, int], tuple[Any, ...]]:
        """Every live sample's number and place by its own name."""
        query = (
            select(
                Sample.episode_id,
                Sample.episode_version,
                Sample.position,
                Sample.number,
                Placement.shard_id,
                Placement.offset,
                Placement.length,
            )
            .join(Placement, Placement.sample_number == Sample.number)
            .join(Shard, Shard.shard_id == Placement.shard_id)
            .where(Sample.retired_revision.is_(None), Shard.state == "live")
        )
        with read(self.intake.engine) as session:
            return {row[:3]: tuple(row[3:]) for row in session.execute(query)}

    def shard_paths(self, representation: str) -> list[Path]:
        """The files of a representation, in the order of their names."""
        with read(self.intake.engine) as session:
            paths = session.scalars(
                select(Shard.path)
                .where(Shard.representation == representation)
                .order_by(Shard.path)
            )
            return [self.intake.settings.shards_path / path for path in paths]

    @property
    def frames(self) -> list[Path]:
        """The two frame shards."""
        return self.shard_paths(FRAME)

    @property
    def documents(self) -> Path:
        """The one shard of documents."""
        [path] = self.shard_paths(DOCUMENT)
        return path

    def verify(self, *, repair: bool = False) -> Verdict:
        """All checks."""
        return verify(self.intake.settings, repair=repair)

    def findings(self) -> list[tuple[str, str]]:
        """What is wrong: kind and subject, in order."""
        judged = self.verify().judged
        return sorted((each.finding.kind, each.finding.subject) for each in judged)

    def mend(self) -> None:
        """Repair all that is wrong, and let the workers make anew what was lost."""
        verdict = self.verify(repair=True)
        assert verdict.judged
        assert verdict.num_open == 0
        self.work()
        assert self.findings() == []


def stocked(intake: Intake) -> Stocked:
    """Two replayed episodes, each a shard, and three documents, which are one."""
    for visit in ("a", "b"):
        acts = [wire_event(n, visit) for n in range(4)]
        intake.post(*acts, wire_event(4, visit, **END))
    for number in range(3):
        text = {"kind": "document", "payload": {"text": f"text {number}"}}
        intake.post(wire_event(number, "texts", **text))
    stocked = Stocked(intake)
    stocked.work()
    assert stocked.findings() == []
    return stocked
