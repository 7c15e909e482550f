"""Slices (named, saved filters over the buffer) and mixes (shares over slices, versioned).

In: names, filter texts and shares from people and agents. Out: rows, and a slice's members at one
revision, which are what a run may draw. Whatever a filter says, only samples of the `train` split
are members, they have a place in the wanted representation, and ages count from the revision's own
time, so that the same revision gives the same members for ever.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session

from ingest.buffer import LIVE, revision_time
from ingest.database import next_number, take_turn
from ingest.filters import parse
from ingest.ids import content_id
from ingest.preview import AGE_LIMITS_S, OLDER, Preview, SampleGroup, preview_mix
from ingest.sources import is_released
from ingest.tables import Mix, Placement, Sample, Shard, Slice

CHANGE_TICKS = 24
MAX_SHARE_PER_USER = 0.10
_NAME = re.compile(r"[a-z0-9_-]{1,64}")


class SliceError(ValueError):
    """A slice or mix can't be as asked; `field` is the part at fault."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


@dataclass(frozen=True, eq=False)
class Members:
    """A slice's samples at one revision, of released sources; ordered by number, one length.

    `owners` tells users apart (visits, where there is no user); `is_change` says that the screen's
    structure changed within the last 24 ticks, so that a window shows the change.
    """

    numbers: NDArray[np.int64]
    owners: NDArray[np.int64]
    is_change: NDArray[np.bool_]


def save_slice(
    session: Session,
    name: str,
    filter_text: str,
    *,
    actor: str,
    now: float,
    max_share_per_user: float = MAX_SHARE_PER_USER,
    max_uses: int | None = None,
) -> Slice:
    """Create a slice or change it; running jobs see the change at their next adoption.

    Raises SliceError for the name or a cap, FilterError for the filter.
    """
    _check_name("name", name)
    parse(filter_text)
    if not 0 < max_share_per_user <= 1:
        raise SliceError("max_share_per_user", "a share of the draws above 0, at most 1")
    if max_uses is not None and max_uses < 1:
        raise SliceError("max_uses", "at least 1, or leave it out")
    take_turn(session, f"slice:{name}")
    return session.merge(
        Slice(
            name=name,
            filter=filter_text,
            max_share_per_user=max_share_per_user,
            max_uses=max_uses,
            created_at=now,
            created_by=actor,
        )
    )


def list_slices(session: Session) -> list[Slice]:
    """All slices by name."""
    return list(session.scalars(select(Slice).order_by(Slice.name)))


def save_mix(
    session: Session, name: str, shares: Mapping[str, float], *, actor: str, now: float
) -> Mix:
    """Store the next version of a mix, its shares scaled to sum 1.

    Raises SliceError naming the share that is negative or not finite, or the slice that is unknown.
    """
    _check_name("name", name)
    mix = Mix(
        name=name,
        version=next_number(session, f"mix:{name}"),
        shares_json=orjson.dumps(normalised(session, shares)).decode(),
        created_at=now,
        created_by=actor,
    )
    session.add(mix)
    session.flush()
    return mix


def get_mix(session: Session, name: str, version: int | None = None) -> Mix:
    """One version of a mix, the newest by default. Raises SliceError when there is none."""
    query = select(Mix).where(Mix.name == name).order_by(Mix.version.desc()).limit(1)
    if version is not None:
        query = query.where(Mix.version == version)
    mix = session.scalar(query)
    if mix is None:
        wanted = f"{name!r}" if version is None else f"{name!r} version {version}"
        raise SliceError("mix", f"no mix {wanted}; save it first")
    return mix


def shares_of(mix: Mix) -> dict[str, float]:
    """A stored mix's shares by slice; they sum to 1."""
    shares: dict[str, float] = orjson.loads(mix.shares_json)
    return shares


def normalised(session: Session, shares: Mapping[str, float]) -> dict[str, float]:
    """Scale shares to sum 1. Raises SliceError as `save_mix` does."""
    known = set(session.scalars(select(Slice.name).where(Slice.name.in_(list(shares)))))
    for name, share in shares.items():
        if name not in known:
            raise SliceError(f"shares.{name}", "no slice of this name; save it first")
        if not (math.isfinite(share) and share >= 0):
            raise SliceError(f"shares.{name}", f"a finite number from 0 up, not {share}")
    total = sum(shares.values())
    if total == 0:
        raise SliceError("shares", "at least one slice needs a share above 0")
    if not math.isfinite(total):
        raise SliceError("shares", "too large to be added up; give shares around 1")
    return {name: share / total for name, share in shares.items()}


def members(
    session: Session, name: str, *, revision: int, representation: str, environment: str
) -> Members:
    """A slice's samples at a revision. Raises SliceError for an unknown slice."""
    query = (
        select(
            Sample.number,
            Sample.ticks_since_change,
            Sample.source,
            Sample.user_id,
            Sample.session_key,
        )
        .join(Placement, Placement.sample_number == Sample.number)
        .where(
            _eligible(session, name, revision, representation), Sample.environment == environment
        )
        .order_by(Sample.number)
    )
    # Plain rows, 4 us each; through the session they take 6.
    rows = session.connection().execute(query).all()
    owners = {key: _owner(*key) for key in {row[2:] for row in rows}}
    return Members(
        numbers=np.fromiter((row[0] for row in rows), np.int64, len(rows)),
        owners=np.fromiter((owners[row[2:]] for row in rows), np.int64, len(rows)),
        is_change=np.fromiter(
            (row[1] is not None and row[1] < CHANGE_TICKS for row in rows), np.bool_, len(rows)
        ),
    )


def preview(
    session: Session,
    shares: Mapping[str, float],
    *,
    revision: int,
    representation: str = "frame",
) -> Preview:
    """What the next 1,000 draws of these shares would be, of all environments.

    Raises SliceError as `save_mix` does.
    """
    wanted = normalised(session, shares)
    return preview_mix(
        revision,
        wanted,
        {name: _groups(session, name, revision, representation) for name in wanted},
    )


def _groups(session: Session, name: str, revision: int, representation: str) -> list[SampleGroup]:
    age_s = revision_time(session, revision) - Sample.timestamp
    columns = (
        Sample.session_key,
        Sample.user_id,
        Sample.tasks,
        func.coalesce(Sample.ticks_since_change < CHANGE_TICKS, False),
        case(*((age_s < limit_s, age) for age, limit_s in AGE_LIMITS_S.items()), else_=OLDER),
    )
    rows = session.execute(
        select(*columns, func.max(Sample.timestamp), func.count())
        .join(Placement, Placement.sample_number == Sample.number)
        .where(_eligible(session, name, revision, representation))
        .group_by(*columns)
    )
    return [
        SampleGroup(key, user, tuple(tasks.split()), bool(is_change), age, newest, count)
        for key, user, tasks, is_change, age, newest, count in rows
    ]


def exported(session: Session, name: str | None, revision: int) -> ColumnElement[bool]:
    """What of `Sample` and `Placement` an export of a slice takes; of everything without a name.

    Raises SliceError for an unknown slice.
    """
    is_there = _is_there(revision)
    return is_there if name is None else and_(is_there, _is_member(session, name, revision))


def _eligible(
    session: Session, name: str, revision: int, representation: str
) -> ColumnElement[bool]:
    return and_(
        _is_there(revision),
        _is_member(session, name, revision),
        Placement.representation == representation,
    )


def _is_there(revision: int) -> ColumnElement[bool]:
    return and_(
        Sample.added_revision <= revision,
        or_(Sample.retired_revision.is_(None), Sample.retired_revision > revision),
        Placement.added_revision <= revision,
        Placement.shard_id.not_in(select(Shard.shard_id).where(Shard.state != LIVE)),
        is_released(revision),
    )


def _is_member(session: Session, name: str, revision: int) -> ColumnElement[bool]:
    saved = session.get(Slice, name)
    if saved is None:
        raise SliceError("slice", f"no slice {name!r}; save it first")
    within = parse(saved.filter).where(revision_time(session, revision))
    return and_(Sample.split == "train", within)


def _owner(source: str, user_id: str | None, session_key: str) -> int:
    named = ("session", session_key) if user_id is None else ("user", source, user_id)
    return int(content_id(*named)[:16], 16) >> 1  # 63 bits: not negative


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SliceError(field, f"1 to 64 of a-z, 0-9, _ and -, not {name[:80]!r}")
