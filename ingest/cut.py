"""The stage that cuts: sessions with news become episodes, new ones or next versions.

In: sessions marked `needs_cut`. Out: `episodes` rows, and the events' places in them. Guaranteed:
an episode that did not change keeps its version, its state and its samples; a changed one gets the
next version, whose replay retires the samples of the one before; one that is no more (its first
event moved) is `superseded` and its samples leave the buffer at once.
Decision: the rules (`sessions.py`) know no clock. Wall clock only says when an open tail has been
quiet for `open_tail_s` and is replayed as it is; what comes later makes its next version.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson
import structlog
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from ingest.buffer import new_revision, num_live, retire
from ingest.database import read, write
from ingest.ids import content_id
from ingest.sessions import CutEpisode, SessionEvent, cut
from ingest.settings import Settings
from ingest.tables import Episode, EventRow, SessionRow

PLANNING_S = 0.01  # of the write lock; applying the plans takes about as long
MAX_SESSIONS = 50

log = structlog.get_logger()


@dataclass(frozen=True)
class EpisodeActions:
    """An episode's events in order: `unrecorded` are replayed first, without samples."""

    unrecorded: list[EventRow]
    recorded: list[EventRow]


@dataclass(frozen=True)
class _Plan:
    """What cutting one session asks for."""

    row: SessionRow
    pieces: Mapping[str, CutEpisode]  # by episode id, in order
    known: Mapping[str, Episode]
    places: Mapping[int, tuple[str, int]]  # of the events that move

    @property
    def lost(self) -> list[str]:
        return [
            episode_id
            for episode_id, episode in self.known.items()
            if episode_id not in self.pieces and episode.state != "superseded"
        ]


def cut_dirty(engine: Engine, settings: Settings) -> int:
    """Cut every session that has news; returns how many."""
    num_cut = 0
    while num_done := _cut_some(engine, settings):
        num_cut += num_done
    return num_cut


def settle_open_tails(engine: Engine, settings: Settings, *, now: float) -> int:
    """Let open tails be replayed whose session has been quiet long enough; returns how many."""
    quiet = select(SessionRow.session_key).where(
        SessionRow.received_at <= now - settings.open_tail_s, SessionRow.needs_cut.is_(False)
    )
    is_due = (Episode.state == "open", Episode.session_key.in_(quiet))
    with read(engine) as session:
        due = session.scalars(select(Episode.episode_id).where(*is_due)).all()
    if not due:
        return 0
    with write(engine) as session:
        session.execute(update(Episode).where(*is_due).values(state="waiting"))
    log.info("open_tails_settled", num_episodes=len(due))
    return len(due)


def episode_actions(session: Session, episode_id: str) -> EpisodeActions:
    """The events that a replay of an episode's present version takes."""
    episode = session.get_one(Episode, episode_id)
    earlier = _episodes_before(session, episode)
    events = session.execute(
        select(EventRow, Episode.ordinal)
        .join(Episode, Episode.episode_id == EventRow.episode_id)
        .where(EventRow.episode_id.in_([*earlier, episode_id]))
        .order_by(Episode.ordinal, EventRow.position)
    ).all()
    unrecorded = [event for event, ordinal in events if ordinal < episode.ordinal]
    return EpisodeActions(unrecorded, [event for event, _ in events[len(unrecorded) :]])


def _episodes_before(session: Session, episode: Episode) -> list[str]:
    """The parts of one long episode that come before this one."""
    if episode.num_unrecorded == 0:
        return []
    num_missing = episode.num_unrecorded
    before: list[str] = []
    for episode_id, num_actions in session.execute(
        select(Episode.episode_id, Episode.num_actions)
        .where(
            Episode.session_key == episode.session_key,
            Episode.ordinal < episode.ordinal,
            Episode.state != "superseded",
        )
        .order_by(Episode.ordinal.desc())
    ):
        before.append(episode_id)
        num_missing -= num_actions
        if num_missing <= 0:
            break
    return before


def _cut_some(engine: Engine, settings: Settings) -> int:
    dirty = select(SessionRow).where(SessionRow.needs_cut).order_by(SessionRow.received_at)
    with read(engine) as session:
        if session.scalar(dirty.limit(1)) is None:
            return 0
    with write(engine) as session:
        rows = session.scalars(dirty.limit(MAX_SESSIONS).with_for_update(skip_locked=True))
        plans = list(_planned(session, rows.all(), settings))
        _retire_lost(session, [episode_id for plan in plans for episode_id in plan.lost])
        for plan in plans:
            _apply(session, plan)
    return len(plans)


def _planned(session: Session, rows: Sequence[SessionRow], settings: Settings) -> Iterator[_Plan]:
    deadline = time.monotonic() + PLANNING_S
    for row in rows:
        yield _plan(session, row, settings)
        if time.monotonic() > deadline:
            return


def _plan(session: Session, row: SessionRow, settings: Settings) -> _Plan:
    events = session.execute(
        select(
            EventRow.number,
            EventRow.event_id,
            EventRow.kind,
            EventRow.sequence,
            EventRow.timestamp,
            EventRow.episode_id,
            EventRow.position,
        ).where(EventRow.session_key == row.session_key)
    ).all()
    pieces = {
        content_id(row.source, row.session_id, piece.actions[0].event_id): piece
        for piece in cut(
            [SessionEvent(*event[:5]) for event in events],
            idle_s=settings.session_idle_s,
            max_actions=settings.max_episode_actions,
        )
    }
    places = {
        action.number: (episode_id, position)
        for episode_id, piece in pieces.items()
        for position, action in enumerate(piece.actions)
    }
    for number, *_, episode_id, position in events:
        if places.get(number) == (episode_id, position):
            del places[number]
    known = session.scalars(select(Episode).where(Episode.session_key == row.session_key))
    return _Plan(row, pieces, {episode.episode_id: episode for episode in known}, places)


def _retire_lost(session: Session, lost: Sequence[str]) -> None:
    # Before anything else is written: the revision's counter is the lock that writers queue at.
    num_samples = num_live(session, lost) if lost else 0
    if num_samples:
        revision = new_revision(
            session, "superseded", added=0, retired=num_samples, now=time.time()
        )
        retire(session, lost, revision)


def _apply(session: Session, plan: _Plan) -> None:
    for episode_id in plan.lost:
        _release(plan.known[episode_id], "superseded")
    changed = [
        episode
        for ordinal, (episode_id, piece) in enumerate(plan.pieces.items())
        if (episode := _set_piece(session, plan, ordinal, episode_id, piece))
    ]
    session.flush()
    if plan.places:
        session.execute(
            update(EventRow),
            [
                {"number": number, "episode_id": episode_id, "position": position}
                for number, (episode_id, position) in plan.places.items()
            ],
        )
    for episode in changed:
        _count(session, episode)
    plan.row.needs_cut = False


def _set_piece(
    session: Session, plan: _Plan, ordinal: int, episode_id: str, piece: CutEpisode
) -> Episode | None:
    """Bring an episode's row to what was cut; returns it where its actions changed."""
    episode = plan.known.get(episode_id)
    state = "open" if piece.is_open else "waiting"
    if episode is None:
        episode = Episode(
            episode_id=episode_id,
            session_key=plan.row.session_key,
            version=0,
            attempts=0,
            tasks="",
            num_auto=0,
            num_stuck_keys=0,
        )
        session.add(episode)
    elif episode.digest == piece.digest and episode.state != "superseded":
        episode.ordinal = ordinal
        if episode.state == "open":
            episode.state = state
        return None
    _release(episode, state)
    episode.version += 1
    episode.ordinal = ordinal
    episode.digest = piece.digest
    episode.num_actions = len(piece.actions)
    episode.num_unrecorded = piece.num_unrecorded
    episode.first_timestamp = piece.actions[0].timestamp
    episode.last_timestamp = piece.actions[-1].timestamp
    return episode


def _release(episode: Episode, state: str) -> None:
    """Take an episode from whoever works on it, with all its attempts before it."""
    episode.state = state
    episode.attempts = 0
    episode.lease_holder = None
    episode.lease_expires_at = None
    episode.error = None


def _count(session: Session, episode: Episode) -> None:
    actions = episode_actions(session, episode.episode_id)
    recorded = [orjson.loads(event.payload_json) for event in actions.recorded]
    episode.num_auto = sum(payload.get("is_auto_input") is True for payload in recorded)
