"""The whole of forgetting: a user or a session is taken out of everything, and stays out.

In: an identity. Out: what went, and what remains where nobody here can reach it. Guaranteed: once
it answers, no file of the installation holds what they sent: not the embedded log, the rows, the
dead letters or the shards, and no page or WAL of SQLite's. From its first transaction on, the
tombstones', nothing of theirs comes in. It may end anywhere: the same call again goes on.

The order makes that so. Tombstones first; then the log, which also tells of visits that are no rows
yet; then rows and shards; then the log once more, for a request that was on its way; then the
sessions' own rows, by which all else is found; and last the traces in the database's file.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import ColumnElement, Engine, select, update
from sqlalchemy.orm import Session

from ingest.database import erase_traces, read, take_turn, write
from ingest.forgetting.records import without
from ingest.forgetting.rows import (
    Counted,
    delete_dead_letters,
    delete_rows,
    delete_sessions,
    withdraw,
)
from ingest.forgetting.shards import forget_in_shards
from ingest.forgetting.tombstones import (
    TURN,
    Forgotten,
    Identity,
    load_forgotten,
    session_tombstone,
)
from ingest.log import EventLog
from ingest.shard_store import ShardStore
from ingest.tables import SessionRow, Source, Tombstone

SESSIONS_A_STEP = 50

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What went with this call, and what can't be reached; `log_until` is seconds since 1970."""

    tombstone_id: str
    forgotten_at: float
    num_sessions: int
    num_events: int
    num_samples: int
    num_dead_letters: int
    num_shards: int
    log_until: float | None
    remains: list[str]


@dataclass(frozen=True, slots=True)
class Buried:
    """A tombstone, as another installation has it."""

    tombstone_id: str
    of_user: str | None
    forgotten_at: float


class Forgetting:
    """Forgets in one installation; any thread may, at any time."""

    def __init__(self, engine: Engine, store: ShardStore, event_log: EventLog) -> None:
        self._engine = engine
        self._store = store
        self._log = event_log

    def forget(self, who: Identity) -> Outcome:
        """Forget somebody; again, it goes on where it ended, or finds what came since.

        Raises LogUnavailable, sqlalchemy's OperationalError, or OSError for the shards' store.
        """
        now = time.time()
        forgotten = self._bury(who, now)
        is_theirs = (Tombstone.tombstone_id == who.tombstone_id) | (
            Tombstone.of_user == who.tombstone_id
        )
        stays_s = self._clean_log(forgotten, who.tombstone_id, now)
        counted, remains = self._erase(forgotten, [who.source], is_theirs)
        return Outcome(
            tombstone_id=who.tombstone_id,
            forgotten_at=now,
            num_sessions=counted["sessions"],
            num_events=counted["events"],
            num_samples=counted["samples"],
            num_dead_letters=counted["dead_letters"],
            num_shards=counted["shards"],
            log_until=None if stays_s is None else now + stays_s,
            remains=[remains] if remains else [],
        )

    def forget_again(self, buried: Sequence[Buried]) -> Counted:
        """Forget whom another installation has forgotten, of which this one is an older copy.

        Raises as `forget` does.
        """
        forgotten = Forgotten({each.tombstone_id: each.forgotten_at for each in buried})
        with write(self._engine) as session:
            take_turn(session, TURN)
            for each in buried:
                _bury(session, each.tombstone_id, each.of_user, each.forgotten_at)
        with read(self._engine) as session:
            sources = session.scalars(select(Source.name)).all()
            for row in session.scalars(select(SessionRow)):
                if forgotten.has_user(row.source, row.user_id, row.received_at):
                    forgotten.add_session(row.session_key)
        self._clean_log(forgotten, None, time.time())
        is_theirs = Tombstone.tombstone_id.in_([each.tombstone_id for each in buried])
        counted, _ = self._erase(forgotten, sources, is_theirs)
        return counted

    def _erase(
        self, forgotten: Forgotten, sources: Sequence[str], is_theirs: ColumnElement[bool]
    ) -> tuple[Counted, str | None]:
        """What went from rows and shards, and what remains of it all the same."""
        counted: Counted = Counter()
        self._delete_letters(forgotten, sources, counted)
        keys = self._keys(forgotten, sources)
        counted["sessions"] = len(keys)
        for start in range(0, len(keys), SESSIONS_A_STEP):
            some = keys[start : start + SESSIONS_A_STEP]
            withdraw(self._engine, some)
            counted["shards"] += forget_in_shards(self._engine, self._store, some)
            counted += delete_rows(self._engine, some)
        self._log.rewrite(lambda record: without(record, forgotten))
        self._delete_letters(forgotten, sources, counted)
        for start in range(0, len(keys), SESSIONS_A_STEP):
            delete_sessions(self._engine, keys[start : start + SESSIONS_A_STEP])
        remains = erase_traces(self._engine)
        with write(self._engine) as session:
            session.execute(update(Tombstone).where(is_theirs).values(finished_at=time.time()))
        log.info("forgotten", **counted)
        return counted, remains

    def _delete_letters(
        self, forgotten: Forgotten, sources: Sequence[str], counted: Counted
    ) -> None:
        for source in sources:
            counted["dead_letters"] += delete_dead_letters(self._engine, source, forgotten)

    def _bury(self, who: Identity, now: float) -> Forgotten:
        """Write the tombstones; alone, so that nobody is bringing in what they stand for."""
        with write(self._engine) as session:
            take_turn(session, TURN)
            _bury(session, who.tombstone_id, None, now)
            for key in _keys_of_user(session, who):
                _bury(session, session_tombstone(key), who.tombstone_id, now)
            session.flush()
            ids = _tombstone_ids(session, who)
            return load_forgotten(session, ids)

    def _clean_log(self, forgotten: Forgotten, of_user: str | None, now: float) -> float | None:
        """Take them out of every record; a visit that only the log knows gets a tombstone."""
        while True:
            known = set(forgotten.ids)
            stays_s = self._log.rewrite(lambda record: without(record, forgotten))
            found = set(forgotten.ids) - known
            if not found:
                return stays_s
            with write(self._engine) as session:
                take_turn(session, TURN)
                for tombstone_id in sorted(found):
                    _bury(session, tombstone_id, of_user, now)

    def _keys(self, forgotten: Forgotten, sources: Sequence[str]) -> Sequence[str]:
        """The forgotten sessions that have rows."""
        query = select(SessionRow.session_key).where(SessionRow.source.in_(sources))
        with read(self._engine) as session:
            return sorted(key for key in session.scalars(query) if forgotten.has_session(key))


def _bury(session: Session, tombstone_id: str, of_user: str | None, now: float) -> None:
    known = session.get(Tombstone, tombstone_id)
    if known is None:
        session.add(
            Tombstone(
                tombstone_id=tombstone_id, of_user=of_user, forgotten_at=now, finished_at=None
            )
        )
        return
    known.forgotten_at, known.finished_at = now, None
    known.of_user = known.of_user or of_user


def _keys_of_user(session: Session, who: Identity) -> Sequence[str]:
    if who.noun == "session":
        return []
    is_theirs = SessionRow.source == who.source, SessionRow.user_id == who.name
    return session.scalars(select(SessionRow.session_key).where(*is_theirs)).all()


def _tombstone_ids(session: Session, who: Identity) -> Sequence[str]:
    theirs = Tombstone.of_user == who.tombstone_id
    return [
        who.tombstone_id,
        *session.scalars(select(Tombstone.tombstone_id).where(theirs)),
    ]
