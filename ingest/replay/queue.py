"""The queue of episodes to replay: claimed by lease, one at a time, failed or finished once.

In: episodes that are `waiting`, or `leased` by a worker whose lease ran out. Out: a claim on one
of them, good until its lease expires unless it is renewed. A replay that fails, or whose worker
dies or hangs, counts as an attempt; after 3 the episode is `parked` with its error and holds up
nobody. One episode a claim: what kills a worker is alone under suspicion. A claim is on a version;
when events that came late make a newer one, the claim is lost and what was replayed is dropped.
A version that was replayed before is made anew, in the desktop of that time.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from ingest.leases import is_over
from ingest.tables import Episode

MAX_ATTEMPTS = 3
MAX_ERROR_CHARACTERS = 2_000


@dataclass(frozen=True)
class Claim:
    """One worker's hold on one version of an episode.

    `environment`: the desktop that replayed this very version before, whose frames were lost.
    """

    episode_id: str
    version: int
    holder: str
    environment: str | None = None


def claim_next(session: Session, holder: str, *, now: float, lease_s: float) -> Claim | None:
    """Claim an episode for `holder`, those of dead workers first; None when nothing waits.

    Raced by other workers, a row goes to one: SQLite queues writing transactions, PostgreSQL skips
    rows that another one has locked.
    """
    while episode := session.scalar(
        select(Episode)
        .where(
            Episode.state.in_(["leased", "waiting"]),
            is_over(Episode.lease_expires_at, now=now, lease_s=lease_s),
        )
        .order_by(Episode.state, Episode.lease_expires_at)  # the index's order: no sort
        .limit(1)
        .with_for_update(skip_locked=True)
    ):
        if episode.state == "leased":
            _count_attempt(episode, f"its worker {episode.lease_holder} died or hung over it")
        if episode.state == "parked":
            session.flush()
            continue
        episode.state = "leased"
        episode.lease_holder = holder
        episode.lease_expires_at = now + lease_s
        session.flush()
        is_again = episode.replayed_version == episode.version
        environment = episode.environment if is_again else None
        return Claim(episode.episode_id, episode.version, holder, environment)
    return None


def renew(session: Session, claim: Claim, *, now: float, lease_s: float) -> bool:
    """Prolong a claim; False when it is lost to another worker or a newer version."""
    held = update(Episode).where(*_is_held(claim)).values(lease_expires_at=now + lease_s)
    return session.execute(held.returning(Episode.episode_id)).first() is not None


def held_episode(session: Session, claim: Claim) -> Episode | None:
    """The claimed episode, locked until the transaction ends; None when the claim is lost."""
    return session.scalar(select(Episode).where(*_is_held(claim)).with_for_update())


def release(session: Session, claim: Claim) -> None:
    """Give a claim back, not counted as an attempt: the fault lies elsewhere."""
    if episode := held_episode(session, claim):
        episode.state = "waiting"
        _drop_lease(episode)


def begin_next_version(session: Session, claim: Claim) -> None:
    """Give a claim back for a version to come: what would be made now is not what was lost."""
    if episode := held_episode(session, claim):
        episode.version += 1
        episode.state = "waiting"
        _drop_lease(episode)


def requeue(episode: Episode) -> None:
    """Let the present version of an episode, locked by the caller, be replayed once more."""
    episode.state = "waiting"
    episode.attempts = 0
    _drop_lease(episode)


def fail(session: Session, claim: Claim, error: str) -> bool:
    """Count a failed attempt and keep its error; True when that parked the episode."""
    episode = held_episode(session, claim)
    if episode is None:
        return False
    _count_attempt(episode, error)
    return episode.state == "parked"


def finish(episode: Episode, *, environment: str, tasks: str, now: float) -> None:
    """Mark a held episode as replayed."""
    episode.state = "replayed"
    episode.environment = environment
    episode.tasks = tasks
    episode.error = None
    episode.replayed_version = episode.version
    episode.replayed_at = now
    _drop_lease(episode)


def _count_attempt(episode: Episode, error: str) -> None:
    episode.attempts += 1
    episode.error = error[:MAX_ERROR_CHARACTERS]
    episode.state = "parked" if episode.attempts >= MAX_ATTEMPTS else "waiting"
    _drop_lease(episode)


def _drop_lease(episode: Episode) -> None:
    episode.lease_holder = None
    episode.lease_expires_at = None


def _is_held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        Episode.episode_id == claim.episode_id,
        Episode.version == claim.version,
        Episode.state == "leased",
        Episode.lease_holder == claim.holder,
    )
