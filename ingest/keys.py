"""API keys: made, shown once, recognised.

In: a role, a source, and what its commands are held to. Out: a key `st_<key id>_<secret>`, of which
only the SHA-256 is kept.
Guaranteed: a key bound to one source can't write into another; a revoked one is nobody.
Decision: a plain SHA-256 is enough for 256 random bits (nothing can be guessed), and costs 1 us a
request where a password hash would cost 100 ms.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy.orm import Session

from ingest.tables import ApiKey

Role = Literal["ingest", "player", "viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
SECRET_BYTES = 32

_INCLUDES: dict[Role, frozenset[Role]] = {
    "ingest": frozenset({"ingest"}),
    "player": frozenset({"player"}),
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "player", "operator"}),
    "admin": frozenset(ROLES),
}
_KEY = re.compile(r"st_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
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
    """Who a request comes from."""

    key_id: str
    role: Role
    source: str
    limits: Limits = UNLIMITED


def allows(role: Role, needed: Role) -> bool:
    """Whether a key of this role may do what needs the other one."""
    return needed in _INCLUDES[role]


def create_key(session: Session, role: Role, source: str, limits: Limits = UNLIMITED) -> str:
    """Make a key; the returned text is the only copy.

    Raises ValueError naming `role`, `source` or the limit that can't be one.
    """
    if role not in ROLES:
        raise ValueError(f"role: {role!r} is none of {', '.join(ROLES)}")
    if not _SOURCE.fullmatch(source):
        raise ValueError(f"source: {source!r} must be 1 to 128 of A-Z a-z 0-9 . _ : -")
    _check_limits(role, limits)
    key_id = secrets.token_hex(4)
    key = f"st_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    session.add(
        ApiKey(
            key_id=key_id,
            digest=_digest(key),
            role=role,
            source=source,
            created_at=time.time(),
            revoked_at=None,
            max_lr_factor=limits.max_lr_factor,
            max_commands=limits.max_commands,
            needs_approval=limits.needs_approval,
        )
    )
    session.flush()
    return key


def authenticate(session: Session, key: str) -> Caller | None:
    """Whose key this is; None for a wrong, unknown or revoked one."""
    form = _KEY.fullmatch(key)
    row = session.get(ApiKey, form[1]) if form else None
    if row is None or row.revoked_at is not None:
        return None
    if not hmac.compare_digest(row.digest, _digest(key)):
        return None
    role = next(role for role in ROLES if role == row.role)
    limits = Limits(row.max_lr_factor, row.max_commands, row.needs_approval)
    return Caller(row.key_id, role, row.source, limits)


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
