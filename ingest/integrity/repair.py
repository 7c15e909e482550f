"""Each finding's mend: what can be made anew is queued for whoever makes it, under the same ids.

In: a finding. Out: whether it is mended, which for samples means: set apart, and queued. Frames
come again by a replay of their episode, texts by being placed again from their events, latents by
being encoded again; all of them from what they came from the first time, so bit for bit. A shard
that can't be made anew (events are missing) stays set apart with its file, and is reported again.

Guaranteed: a crash between two steps leaves what the next repair goes on with. The shard is set
apart first, its file goes next, and only then is anybody asked to make another, whose file has the
same name: the file that is removed is never the new one.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, exists, func, select, update
from sqlalchemy.orm import Session

from ingest.buffer import (
    DOCUMENT,
    FRAME,
    GONE,
    LIVE,
    QUARANTINED,
    bring_back,
    is_set_apart,
    lock_buffer,
    new_revision,
    quarantine,
    set_apart,
)
from ingest.cut_plan import PLACED
from ingest.database import read, write
from ingest.integrity.files import unknown
from ingest.integrity.finding import Finding, Kind
from ingest.integrity.rows import taken_numbers
from ingest.replay.queue import requeue
from ingest.shard_store import ShardStore, Stored
from ingest.tables import Counter, Episode, EventRow, Placement, Sample, SessionRow, Shard


class Repair:
    """Mends findings of one installation."""

    def __init__(self, engine: Engine, store: ShardStore) -> None:
        self._engine = engine
        self._store = store
        self._mends: Mapping[Kind, Callable[[str], bool]] = {
            "shard_damaged": self._remake_shard,
            "shard_quarantined": self._remake_shard,
            "place_wrong": self._remake_shard,
            "shard_sound_again": self._put_back,
            "file_unknown": self._remove_file,
            "episode_unplaced": self._remake_episode,
            "episode_incomplete": self._remake_episode,
            "events_unplaced": self._cut_again,
            "events_lost": self._cut_again,
            "session_miscounted": self._count_again,
            "counter_behind": self._move_counter,
        }

    def mend(self, finding: Finding) -> bool:
        """Mend what is found; False where nobody can from here."""
        mend = self._mends.get(finding.kind)
        return mend is not None and mend(finding.subject)

    def _remake_shard(self, shard_id: str) -> bool:
        with write(self._engine) as session:
            shard = session.get(Shard, shard_id)
            if shard is None or shard.state == GONE:
                return True  # somebody else has dealt with it
            quarantine(session, shard_id, now=time.time())
        with read(self._engine) as session:
            if not _can_be_made(session, shard):
                return False
        self._store.remove(shard.path)
        with write(self._engine) as session:
            _queue(session, shard_id)
        return True

    def _put_back(self, shard_id: str) -> bool:
        with write(self._engine) as session:
            lock_buffer(session)
            shard = session.get_one(Shard, shard_id, with_for_update=True)
            if shard.state != QUARANTINED:
                return True
            shard.state = LIVE
            held = _held_in(shard_id).where(is_set_apart())
            numbers = session.scalars(held.with_only_columns(Sample.number)).all()
            revision = new_revision(
                session, "repaired", added=len(numbers), retired=0, now=time.time()
            )
            bring_back(session, numbers, revision)
        return True

    def _remake_episode(self, episode_id: str) -> bool:
        """Make all of an episode anew, the shards included in which the rest of it lies."""
        with write(self._engine) as session:
            set_apart(session, Sample.episode_id == episode_id, now=time.time())
            shard_ids = session.scalars(
                select(Placement.shard_id)
                .join(Sample, Sample.number == Placement.sample_number)
                .where(
                    Sample.episode_id == episode_id,
                    Placement.representation.in_((FRAME, DOCUMENT)),
                )
                .distinct()
            ).all()
        if not all(self._remake_shard(shard_id) for shard_id in shard_ids):
            return False
        with write(self._engine) as session:
            _replay_again(session, Episode.episode_id == episode_id)
            _place_again(session, EventRow.episode_id == episode_id)
        return True

    def _remove_file(self, path: str) -> bool:
        if unknown(self._engine, [Stored(path, num_bytes=0, modified_at=0.0)]):
            self._store.remove(path)
        return True

    def _cut_again(self, session_key: str) -> bool:
        with write(self._engine) as session:
            session.get_one(SessionRow, session_key, with_for_update=True).needs_cut = True
        return True

    def _count_again(self, session_key: str) -> bool:
        count = select(func.count()).where(EventRow.session_key == session_key)
        with write(self._engine) as session:
            row = session.get_one(SessionRow, session_key, with_for_update=True)
            row.num_events = session.scalar(count) or 0
        return True

    def _move_counter(self, name: str) -> bool:
        with write(self._engine) as session:
            taken = taken_numbers(session)[name]
            row = session.get(Counter, name, with_for_update=True)
            if row is None:
                session.add(Counter(name=name, value=taken))
            else:
                row.value = max(row.value, taken)
        return True


def _held_in(shard_id: str) -> Select[Any]:
    """The samples that have their place in a shard."""
    return (
        select(Sample)
        .join(Placement, Placement.sample_number == Sample.number)
        .where(Placement.shard_id == shard_id)
    )


def _can_be_made(session: Session, shard: Shard) -> bool:
    """Whether all is there that the shard's present samples are made from."""
    if shard.representation != FRAME:
        return True  # a text lies in the event that its sample names, a latent comes from a frame
    num_events = (
        select(func.count()).where(EventRow.episode_id == Episode.episode_id).scalar_subquery()
    )
    held = _held_in(shard.shard_id).where(is_set_apart())
    lacking = select(Episode.episode_id).where(
        Episode.episode_id.in_(held.with_only_columns(Sample.episode_id)),
        Episode.num_actions != num_events,
    )
    return session.scalar(lacking.limit(1)) is None


def _queue(session: Session, shard_id: str) -> None:
    """Have made anew what a shard held, whose file is gone."""
    lock_buffer(session)
    shard = session.get_one(Shard, shard_id, with_for_update=True)
    if shard.state != QUARANTINED:
        return
    shard.state = GONE
    revision = new_revision(session, "repaired", added=0, retired=0, now=time.time())
    held = _held_in(shard_id).where(is_set_apart())
    if shard.representation == FRAME:
        _replay_again(session, Episode.episode_id.in_(held.with_only_columns(Sample.episode_id)))
    elif shard.representation == DOCUMENT:
        _place_again(session, EventRow.number.in_(held.with_only_columns(Sample.event_number)))
    else:  # the encode worker looks at frames that are newer than what it has seen
        is_frame = (
            Placement.representation == FRAME,
            Placement.sample_number.in_(held.with_only_columns(Sample.number)),
        )
        session.execute(update(Placement).where(*is_frame).values(added_revision=revision))


def _replay_again(session: Session, are_lost: ColumnElement[bool]) -> None:
    """Queue episodes that were replayed; one that waits or is replayed just now comes anyway."""
    is_done = Episode.state.in_(("replayed", "parked"))
    lost = select(Episode).where(are_lost, is_done).order_by(Episode.episode_id)
    for episode in session.scalars(lost.with_for_update()):
        requeue(episode)


def _place_again(session: Session, are_lost: ColumnElement[bool]) -> None:
    """Let placed documents wait again."""
    is_placed = exists().where(Episode.episode_id == EventRow.episode_id, Episode.state == PLACED)
    values = {"episode_id": None, "position": None}
    session.execute(update(EventRow).where(are_lost, is_placed).values(**values))
