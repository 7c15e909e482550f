"""The buffer: all samples, where their bytes lie, and the revisions by which it changes.

In: rows made by the replay worker, by the consumer (documents) and by the encode worker. Out:
numbered revisions (1, 2, 3 ...) in commit order; a sample is in the buffer at revision r when
added_revision <= r < retired_revision. A transaction that changes the buffer locks it before it
looks at what is there: what it has found stays so until it commits, nobody brings back what another
has just retired, and whoever has seen revision r has seen all that it holds. An episode goes in
whole: about 30 us of lock a sample, 6 ms for an ordinary 200, 90 ms for the longest 3,000. What is
made anew after damage keeps its samples' numbers, and is in the buffer from then on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from ingest.cut_plan import SUPERSEDED
from ingest.database import next_number
from ingest.shards import Span, WrittenShard
from ingest.tables import Episode, Placement, Revision, Sample, SessionRow, Shard

FRAME = "frame"
DOCUMENT = "document"

# States of a shard: readable; set apart with its samples; beyond use, what it held is made anew.
LIVE = "live"
QUARANTINED = "quarantined"
GONE = "gone"

NUMBERS_A_STATEMENT = 10_000  # an engine takes some 32,000 values

_REVISION = "revision"  # the counter, whose row's lock is the buffer's

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


def lock_buffer(session: Session) -> None:
    """Let nobody else change the buffer until this transaction ends.

    Comes before every look at samples on which a change depends, and before locks on rows, so that
    all take their locks in one order: the revision's counter, then episodes, then shards.
    """
    next_number(session, _REVISION, 0)


def new_revision(session: Session, kind: str, *, added: int, retired: int, now: float) -> int:
    """Begin a change of the buffer, which is locked from here on; rows are changed after it.

    `kind` is one of those that `tables.Revision` names; `now` is wall clock, seconds.
    """
    number = next_number(session, _REVISION)
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
) -> list[int]:
    """Put the samples of an episode's present version in; returns their numbers, in their order.

    The episode's environment and tasks must be set. Samples that are known already are made anew.
    """
    return add_episodes(session, [(episode, samples)], revision)


def add_episodes(
    session: Session, episodes: Sequence[tuple[Episode, Sequence[NewSample]]], revision: int
) -> list[int]:
    """Put the samples of several episodes in at once, as `add_samples` does."""
    keys = {episode.session_key for episode, _ in episodes}
    visits = session.scalars(select(SessionRow).where(SessionRow.session_key.in_(keys)))
    owners = {visit.session_key: visit for visit in visits}
    known = _known_numbers(session, [episode for episode, _ in episodes])
    wanted = [
        (episode.episode_id, sample.position) for episode, samples in episodes for sample in samples
    ]
    rows = [
        shared | vars(sample) | {"changes": spaced(sample.changes)}
        for episode, samples in episodes
        for shared in [_shared(episode, owners[episode.session_key], revision)]
        for sample in samples
        if (episode.episode_id, sample.position) not in known
    ]
    fresh = _insert(session, rows)
    again = sorted(known[place] for place in wanted if place in known)
    if again:
        bring_back(session, again, revision)
    return [known[place] if place in known else next(fresh) for place in wanted]


def bring_back(session: Session, numbers: Sequence[int], revision: int) -> None:
    """Let samples that were retired be in the buffer again, from a revision on."""
    values = {"added_revision": revision, "retired_revision": None}
    for start in range(0, len(numbers), NUMBERS_A_STATEMENT):
        some = numbers[start : start + NUMBERS_A_STATEMENT]
        is_out = Sample.number.in_(some), Sample.retired_revision.is_not(None)
        session.execute(update(Sample).where(*is_out).values(**values))


def is_set_apart() -> ColumnElement[bool]:
    """Of samples that were lost with a shard, and that no later version has replaced since."""
    present = aliased(Episode)
    is_present = exists().where(
        present.episode_id == Sample.episode_id,
        present.version == Sample.episode_version,
        present.state != SUPERSEDED,
    )
    lost = select(Revision.number).where(Revision.kind == "quarantined")
    return and_(Sample.retired_revision.in_(lost), is_present.correlate(Sample))


def _known_numbers(session: Session, episodes: Sequence[Episode]) -> dict[tuple[str, int], int]:
    """The samples that the episodes' present versions have, by episode and position."""
    versions = {episode.episode_id: episode.version for episode in episodes}
    rows = session.execute(
        select(Sample.episode_id, Sample.episode_version, Sample.position, Sample.number).where(
            Sample.episode_id.in_(versions)
        )
    )
    return {
        (episode_id, position): number
        for episode_id, version, position, number in rows
        if version == versions[episode_id]
    }


def _insert(session: Session, rows: Sequence[dict[str, object]]) -> Iterator[int]:
    """Insert samples; gives their numbers, in their order."""
    if not rows:
        return iter(())
    last = next_number(session, "sample", len(rows))
    numbers = range(last - len(rows) + 1, last + 1)
    session.execute(
        insert(_SAMPLES),
        [row | {"number": number} for number, row in zip(numbers, rows, strict=True)],
    )
    return iter(numbers)


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

    A row that is there already has the same bytes, as its id says. Raises
    sqlalchemy.exc.IntegrityError when a sample has a place in the representation already.
    """
    known = session.get(Shard, shard.shard_id, with_for_update=True)
    if known is None:
        row = Shard(**vars(shard), representation=representation, created_at=now, state=LIVE)
        session.add(row)
    else:
        known.state = LIVE
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


def unplace(session: Session, numbers: Sequence[int], representation: str) -> None:
    """Drop the places that samples have in shards that are lost, for they get other ones now."""
    lost = select(Shard.shard_id).where(Shard.state != LIVE)
    is_lost = Placement.sample_number.in_(numbers), Placement.shard_id.in_(lost)
    session.execute(delete(Placement).where(*is_lost, Placement.representation == representation))


def quarantine(session: Session, shard_id: str, *, now: float) -> int:
    """Set a corrupt shard apart and retire its samples; returns how many that were.

    A second time changes nothing, nor where it is removed by now.
    """
    lock_buffer(session)
    shard = session.get(Shard, shard_id, with_for_update=True)
    if shard is None or shard.state != LIVE:
        return 0
    shard.state = QUARANTINED
    members = select(Placement.sample_number).where(Placement.shard_id == shard_id)
    return set_apart(session, Sample.number.in_(members), now=now)


def set_apart(session: Session, are_lost: ColumnElement[bool], *, now: float) -> int:
    """Retire samples that can't be read, until they are made anew; returns how many that were."""
    lock_buffer(session)
    is_lost = are_lost, Sample.retired_revision.is_(None)
    num_lost = session.scalar(select(func.count()).where(*is_lost)) or 0
    revision = new_revision(session, "quarantined", added=0, retired=num_lost, now=now)
    session.execute(update(Sample).where(*is_lost).values(retired_revision=revision))
    return num_lost


def _live(episode_ids: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return Sample.episode_id.in_(episode_ids), Sample.retired_revision.is_(None)
