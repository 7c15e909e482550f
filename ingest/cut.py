"""The stage that cuts: sessions with news become episodes, new ones or next versions.

In: sessions marked `needs_cut`. Out: `episodes` rows, and the events' places in them. Guaranteed:
an episode that did not change keeps its version, its state and its samples; a changed one gets the
next version, whose replay retires the samples of the one before; one that is no more (its first
event moved) is `superseded` and its samples leave the buffer at once.
Decision: the rules (`sessions.py`) know no clock. Wall clock only says when an open tail has been
quiet for `open_tail_s` and is replayed as it is; what comes later makes its next version.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine, or_, select, update
from sqlalchemy.orm import Session

from ingest.buffer import lock_buffer, new_revision, num_live, retire
from ingest.cut_plan import PLACED, SUPERSEDED, PlannedEpisode, SessionPlan, plan_session
from ingest.database import read, update_rows, write
from ingest.settings import Settings
from ingest.tables import Episode, EventRow, SessionRow

SESSIONS_PER_TRANSACTION = 10

_EVENTS = EventRow.metadata.tables["events"]

log = structlog.get_logger()


class EpisodeGone(ValueError):
    """An episode is no more: who sent it is forgotten."""


@dataclass(frozen=True)
class EpisodeActions:
    """An episode's events in order: `unrecorded` are replayed first, without samples."""

    unrecorded: list[EventRow]
    recorded: list[EventRow]


def cut_dirty(engine: Engine, settings: Settings) -> int:
    """Cut every session that has news; returns how many."""
    num_cut = 0
    while num_done := _cut_some(engine, settings):
        num_cut += num_done
    return num_cut


def settle_open_tails(engine: Engine, settings: Settings, *, now: float) -> int:
    """Let open tails be replayed whose session has been quiet long enough; returns how many."""
    tail_s = settings.open_tail_s
    # What came so much later than now came before the clock was turned back.
    is_quiet = or_(SessionRow.received_at <= now - tail_s, SessionRow.received_at > now + tail_s)
    quiet = select(SessionRow.session_key).where(is_quiet, SessionRow.needs_cut.is_(False))
    is_due = (Episode.state == "open", Episode.session_key.in_(quiet))
    with read(engine) as session:
        due = session.scalars(select(Episode.episode_id).where(*is_due)).all()
    if not due:
        return 0
    free = select(Episode.episode_id).where(*is_due).with_for_update(skip_locked=True)
    with write(engine) as session:
        session.execute(update(Episode).where(Episode.episode_id.in_(free)).values(state="waiting"))
    log.info("open_tails_settled", num_episodes=len(due))
    return len(due)


def episode_actions(session: Session, episode_id: str) -> EpisodeActions:
    """The events that a replay of an episode's present version takes. Raises EpisodeGone."""
    episode = session.get(Episode, episode_id)
    if episode is None:
        raise EpisodeGone(f"episode {episode_id} is forgotten")
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
            Episode.state.not_in((SUPERSEDED, PLACED)),
        )
        .order_by(Episode.ordinal.desc())
    ):
        before.append(episode_id)
        num_missing -= num_actions
        if num_missing <= 0:
            break
    return before


def _cut_some(engine: Engine, settings: Settings) -> int:
    with read(engine) as session:
        dirty = session.scalars(
            select(SessionRow)
            .where(SessionRow.needs_cut)
            .order_by(SessionRow.received_at)
            .limit(SESSIONS_PER_TRANSACTION)
        ).all()
        plans = [plan_session(session, row, settings) for row in dirty]
    if not plans:
        return 0
    plans.sort(key=lambda plan: plan.session_key)  # all lock them in one order
    with write(engine) as session:
        if any(plan.lost for plan in plans):
            lock_buffer(session)  # for the samples as well that a replay brings in at this moment
        holding = [plan for plan in plans if _still_holds(session, plan)]
        _retire(session, [episode_id for plan in holding for episode_id in plan.lost])
        for plan in holding:
            _apply(session, plan)
    return len(plans)


def _still_holds(session: Session, plan: SessionPlan) -> bool:
    """Whether no event has come since, and nobody has cut or forgotten the session."""
    row = session.get(SessionRow, plan.session_key, with_for_update={"key_share": True})
    return row is not None and row.needs_cut and row.num_events == plan.num_events


def _retire(session: Session, lost: Sequence[str]) -> None:
    num_samples = num_live(session, lost) if lost else 0
    if num_samples:
        revision = new_revision(
            session, "superseded", added=0, retired=num_samples, now=time.time()
        )
        retire(session, lost, revision)


def _apply(session: Session, plan: SessionPlan) -> None:
    rows = select(Episode).where(Episode.session_key == plan.session_key)
    locked = session.scalars(rows.order_by(Episode.episode_id).with_for_update())
    known = {episode.episode_id: episode for episode in locked}
    for episode_id in plan.lost:
        _begin(known[episode_id], SUPERSEDED)
    for planned in plan.episodes:
        episode = known.get(planned.episode_id)
        if episode is None:
            episode = _new_episode(plan.session_key, planned.episode_id)
            session.add(episode)
        episode.ordinal = planned.ordinal
        if planned.is_changed:
            _next_version(episode, planned)
        elif episode.state == "open":
            episode.state = planned.state
    places = [(number, *place) for number, place in plan.places.items()]
    update_rows(session, _EVENTS, ("number", "episode_id", "position"), places)
    session.get_one(SessionRow, plan.session_key).needs_cut = False


def _new_episode(session_key: str, episode_id: str) -> Episode:
    return Episode(episode_id=episode_id, session_key=session_key, version=0, tasks="")


def _next_version(episode: Episode, planned: PlannedEpisode) -> None:
    _begin(episode, planned.state)
    episode.version += 1
    episode.digest = planned.piece.digest
    episode.num_actions = len(planned.piece.actions)
    episode.num_unrecorded = planned.piece.num_unrecorded
    episode.first_timestamp = planned.piece.actions[0].timestamp
    episode.last_timestamp = planned.piece.actions[-1].timestamp
    episode.num_auto = planned.num_auto
    episode.num_stuck_keys = planned.num_stuck_keys


def _begin(episode: Episode, state: str) -> None:
    """Take an episode from whoever works on it; earlier attempts were at another one."""
    episode.state = state
    episode.attempts = 0
    episode.lease_holder = None
    episode.lease_expires_at = None
    episode.error = None
