"""The buffer: all samples, where their bytes lie, and the revisions by which it changes.

In: rows made by the replay worker, by the consumer (documents) and by the encode worker. Out:
numbered revisions (1, 2, 3 ...) in commit order; a sample is in the buffer at revision r when
added_revision <= r < retired_revision. A transaction takes its revision first: the counter's lock
then makes writers queue, so whoever has seen revision r has seen all that it holds. An episode goes
in whole: about 30 us of lock a sample, 6 ms for an ordinary 200, 90 ms for the longest 3,000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, Table, func, insert, select, update
from sqlalchemy.orm import Session

from ingest.database import next_number
from ingest.shards import Span, WrittenShard
from ingest.tables import Episode, Placement, Revision, Sample, SessionRow, Shard

FRAME = "frame"
DOCUMENT = "document"

# Inserting into the plain tables halves the time under the lock: the ORM keeps books on each row.
_SAMPLES = cast(Table, Sample.__table__)
_PLACEMENTS = cast(Table, Placement.__table__)


@dataclass(frozen=True)
class NewSample:
    """What a replay found out about one action of an episode, or what is known of a document."""

    position: int
    event_number: int
    timestamp: float
    changes: tuple[str, ...]
    ticks_since_change: int | None
    is_auto: bool


def spaced(words: Sequence[str]) -> str:
    """Words as the tables keep them, so that " word " is found whole: spaces around each."""
    return f" {' '.join(words)} " if words else ""


def sample_key(episode_id: str, version: int, position: int) -> str:
    """A sample's name in every shard: equal content has equal names on every machine."""
    return f"{episode_id}-{version}-{position:05d}"


def latest_revision(session: Session) -> int:
    """The newest revision's number; 0 for an empty buffer."""
    return session.scalar(select(func.max(Revision.number))) or 0


def revision_time(session: Session, revision: int) -> float:
    """When a revision was made, which relative ages count from; 0 for revision 0."""
    return session.scalar(select(Revision.created_at).where(Revision.number == revision)) or 0.0


def new_revision(session: Session, kind: str, *, added: int, retired: int, now: float) -> int:
    """Begin a change of the buffer; take it before the rows that it adds or retires.

    `kind` is replayed, superseded, placed, encoded or quarantined; `now` is wall clock, seconds.
    """
    number = next_number(session, "revision")
    session.add(
        Revision(number=number, kind=kind, created_at=now, num_added=added, num_retired=retired)
    )
    session.flush()
    return number


def num_live(session: Session, episode_ids: Sequence[str]) -> int:
    """How many samples of these episodes are not retired, of any version."""
    return session.scalar(select(func.count()).where(*_live(episode_ids))) or 0


def retire(session: Session, episode_ids: Sequence[str], revision: int) -> None:
    """Take all samples of these episodes out of the buffer as of `revision`."""
    session.execute(update(Sample).where(*_live(episode_ids)).values(retired_revision=revision))


def add_samples(
    session: Session, episode: Episode, samples: Sequence[NewSample], revision: int
) -> range:
    """Put the samples of an episode's present version in; returns their numbers, in their order.

    The episode's environment and tasks must be set.
    """
    return add_episodes(session, [(episode, samples)], revision)


def add_episodes(
    session: Session, episodes: Sequence[tuple[Episode, Sequence[NewSample]]], revision: int
) -> range:
    """Put the samples of several episodes in at once, as `add_samples` does."""
    keys = {episode.session_key for episode, _ in episodes}
    visits = session.scalars(select(SessionRow).where(SessionRow.session_key.in_(keys)))
    owners = {visit.session_key: visit for visit in visits}
    rows = [
        shared | vars(sample) | {"changes": spaced(sample.changes)}
        for episode, samples in episodes
        for shared in [_shared(episode, owners[episode.session_key], revision)]
        for sample in samples
    ]
    last = next_number(session, "sample", len(rows))
    numbers = range(last - len(rows) + 1, last + 1)
    session.execute(
        insert(_SAMPLES),
        [row | {"number": number} for number, row in zip(numbers, rows, strict=True)],
    )
    return numbers


def _shared(episode: Episode, owner: SessionRow, revision: int) -> dict[str, object]:
    """What all samples of an episode have in common."""
    return {
        "episode_id": episode.episode_id,
        "episode_version": episode.version,
        "session_key": owner.session_key,
        "source": owner.source,
        "user_id": owner.user_id,
        "split": owner.split,
        "environment": episode.environment,
        "tasks": episode.tasks,
        "added_revision": revision,
        "retired_revision": None,
    }


def add_shard(
    session: Session,
    shard: WrittenShard,
    representation: str,
    *,
    placed: Sequence[tuple[int, Span]],
    revision: int,
    now: float,
) -> None:
    """Index a published shard and where in it each sample (by number) lies.

    Raises sqlalchemy.exc.IntegrityError when a sample has a place in the representation already.
    """
    session.add(Shard(**vars(shard), representation=representation, created_at=now, state="live"))
    session.flush()
    rows = [
        {
            "sample_number": number,
            "representation": representation,
            "shard_id": shard.shard_id,
            "offset": span.offset,
            "length": span.length,
            "added_revision": revision,
        }
        for number, span in placed
    ]
    session.execute(insert(_PLACEMENTS), rows)


def quarantine(session: Session, shard_id: str, *, now: float) -> int:
    """Set a corrupt shard apart and retire its samples; returns how many that were.

    A second time changes nothing.
    """
    shard = session.get_one(Shard, shard_id, with_for_update=True)
    if shard.state == "quarantined":
        return 0
    shard.state = "quarantined"
    members = select(Placement.sample_number).where(Placement.shard_id == shard_id)
    is_lost = Sample.number.in_(members), Sample.retired_revision.is_(None)
    num_lost = session.scalar(select(func.count()).where(*is_lost)) or 0
    revision = new_revision(session, "quarantined", added=0, retired=num_lost, now=now)
    session.execute(update(Sample).where(*is_lost).values(retired_revision=revision))
    return num_lost


def _live(episode_ids: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return Sample.episode_id.in_(episode_ids), Sample.retired_revision.is_(None)
