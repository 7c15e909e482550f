"""API keys: made, shown once, recognised.

In: a role, a source, and what its commands are held to. Out: a key `st_<key id>_<secret>`, of which
only the SHA-256 is kept.
Guaranteed: a key bound to one source can't write into another; a revoked or expired one is nobody,
from the next request on, and so is the browser that signed in with it; a key of one kind never
passes for one of another.
Decision: a plain SHA-256 is enough for 256 random bits: a password hash slows down guessing, and
here nothing can be guessed. It costs 1 us a request where a password hash would cost 100 ms, which
would let anybody keep the server busy.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from ingest.sources import introduce
from ingest.tables import ApiKey

Role = Literal["ingest", "player", "viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
# key: sent with each request; link: good for one sign-in; browser: a signed-in browser's cookie.
Kind = Literal["key", "link", "browser"]
KEY_ID_BYTES = 8
SECRET_BYTES = 32
LAST_USED_EVERY_S = 60.0

_INCLUDES: dict[Role, frozenset[Role]] = {
    "ingest": frozenset({"ingest"}),
    "player": frozenset({"player"}),
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "player", "operator"}),
    "admin": frozenset(ROLES),
}
_KEY = re.compile(r"st_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_SOURCE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True)
class Limits:
    """What the commands of a key are held to; None: not at all.

    `max_lr_factor`: how many times a learning rate may go up or down with one command;
    `max_commands`: how many a run; `needs_approval`: each waits until somebody else approves it.
    """

    max_lr_factor: float | None = None
    max_commands: int | None = None
    needs_approval: bool = False


UNLIMITED = Limits()


@dataclass(frozen=True)
class Caller:
    """Who a request comes from, and from where.

    `key_id` is the key's; a browser that signed in with a key acts under that key's id, so that
    its limits and what it did are one account.
    """

    key_id: str
    role: Role
    source: str
    limits: Limits = UNLIMITED
    address: str = "local"
    request_id: str | None = None


def allows(role: Role, needed: Role) -> bool:
    """Whether a key of this role may do what needs the other one."""
    return needed in _INCLUDES[role]


def create_key(
    session: Session,
    role: Role,
    source: str,
    limits: Limits = UNLIMITED,
    *,
    kind: Kind = "key",
    expires_at: float | None = None,
    parent_id: str | None = None,
) -> str:
    """Make a key; the returned text is the only copy. One that sends makes its source known.

    Raises ValueError naming `role`, `source`, `expires_at` or the limit that can't be one.
    """
    if role not in ROLES:
        raise ValueError(f"role: {role!r} is none of {', '.join(ROLES)}")
    if not _SOURCE.fullmatch(source):
        raise ValueError(f"source: {source!r} must be 1 to 128 of A-Z a-z 0-9 . _ : -")
    _check_limits(role, limits)
    now = time.time()
    if expires_at is not None and not now < expires_at < math.inf:
        raise ValueError("expires_at: must be a time to come")
    key_id = secrets.token_hex(KEY_ID_BYTES)
    key = f"st_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    session.add(
        ApiKey(
            key_id=key_id,
            digest=_digest(key),
            kind=kind,
            role=role,
            source=source,
            parent_id=parent_id,
            created_at=now,
            expires_at=expires_at,
            revoked_at=None,
            last_used_at=None,
            max_lr_factor=limits.max_lr_factor,
            max_commands=limits.max_commands,
            needs_approval=limits.needs_approval,
        )
    )
    session.flush()
    if role == "ingest":
        introduce(session, source)
    return key


def find_key(session: Session, key: str, *, kind: Kind = "key") -> ApiKey | None:
    """The row of a key that is good now; None for one that is wrong, over or of another kind."""
    form = _KEY.fullmatch(key)
    row = session.get(ApiKey, form[1]) if form else None
    if row is None or row.kind != kind or not hmac.compare_digest(row.digest, _digest(key)):
        return None
    return row if _is_good(session, row, time.time()) else None


def caller_of(row: ApiKey, *, address: str = "local", request_id: str | None = None) -> Caller:
    """Who asks with a key, and from where."""
    role = next(role for role in ROLES if role == row.role)
    limits = Limits(row.max_lr_factor, row.max_commands, row.needs_approval)
    return Caller(row.parent_id or row.key_id, role, row.source, limits, address, request_id)


def authenticate(session: Session, key: str) -> Caller | None:
    """Whose key this is; None for a wrong, unknown, expired or revoked one."""
    row = find_key(session, key)
    return None if row is None else caller_of(row)


def revoke(session: Session, key_id: str) -> ApiKey:
    """Let a key be nobody's from now on; one that is revoked already stays as it is.

    Raises LookupError.
    """
    row = session.get(ApiKey, key_id)
    if row is None:
        raise LookupError(f"there is no key {key_id!r}")
    if row.revoked_at is None:
        row.revoked_at = time.time()
        session.flush()
    return row


def record_use(session: Session, key_id: str) -> None:
    """Note that a key is in use, unless that was noted within LAST_USED_EVERY_S."""
    now = time.time()
    is_due = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - LAST_USED_EVERY_S)
    session.execute(update(ApiKey).where(ApiKey.key_id == key_id, is_due).values(last_used_at=now))


def _is_good(session: Session, row: ApiKey, now: float) -> bool:
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return False
    if row.parent_id is None:
        return True
    parent = session.get(ApiKey, row.parent_id)
    return parent is not None and _is_good(session, parent, now)


def _check_limits(role: Role, limits: Limits) -> None:
    if limits != UNLIMITED and role != "operator":
        raise ValueError(f"role: limits are for commands, which {role} does not need; use operator")
    factor, count = limits.max_lr_factor, limits.max_commands
    if factor is not None and not (math.isfinite(factor) and factor >= 1):
        raise ValueError(f"max_lr_factor: {factor:g} must be 1 (never another rate) or more")
    if count is not None and count < 1:
        raise ValueError(f"max_commands: {count} must be 1 or more; role viewer asks for nothing")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
