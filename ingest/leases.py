"""Leases on work: whether one is over, and the lease of a shard from which another one is made.

In: a worker that wants to derive something from a live shard. Out: a claim, good until its lease
expires unless it is renewed. Guaranteed: of two workers that want a shard at once one gets it and
the other goes on to the next (`SKIP LOCKED`; SQLite queues writers); a dead worker's shard is free
when its lease is over. Decision: a lease that ends more than two of its lengths from now was taken
before the clock was turned back, and is over too; clocks of two machines may differ by one length.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from ingest.buffer import LIVE
from ingest.tables import Shard


@dataclass(frozen=True)
class ShardClaim:
    """One worker's hold on a shard."""

    shard_id: str
    holder: str


def is_over(
    expires_at: InstrumentedAttribute[float | None], *, now: float, lease_s: float
) -> ColumnElement[bool]:
    """Whether the lease that ends then holds no more, or there is none; all in seconds."""
    return or_(func.coalesce(expires_at, 0.0) <= now, expires_at > now + 2 * lease_s)


def claim_shard(
    session: Session, shard_id: str, holder: str, *, now: float, lease_s: float
) -> ShardClaim | None:
    """Claim a live shard for `holder`; None when another worker has it, or it is live no more."""
    shard = session.scalar(
        select(Shard)
        .where(
            Shard.shard_id == shard_id,
            Shard.state == LIVE,
            is_over(Shard.lease_expires_at, now=now, lease_s=lease_s),
        )
        .with_for_update(skip_locked=True)
    )
    if shard is None:
        return None
    shard.lease_holder = holder
    shard.lease_expires_at = now + lease_s
    session.flush()
    return ShardClaim(shard_id, holder)


def renew_shard(session: Session, claim: ShardClaim, *, now: float, lease_s: float) -> bool:
    """Prolong a claim; False when another worker has it by now."""
    held = update(Shard).where(*_is_held(claim)).values(lease_expires_at=now + lease_s)
    return session.execute(held.returning(Shard.shard_id)).first() is not None


def release_shard(session: Session, claim: ShardClaim) -> bool:
    """Give a claim back; False when another worker has it by now."""
    held = update(Shard).where(*_is_held(claim)).values(lease_holder=None, lease_expires_at=None)
    return session.execute(held.returning(Shard.shard_id)).first() is not None


def _is_held(claim: ShardClaim) -> tuple[ColumnElement[bool], ...]:
    return Shard.shard_id == claim.shard_id, Shard.lease_holder == claim.holder
