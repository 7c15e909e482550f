"""API keys: made, shown once, recognised.

In: a role and a source. Out: a key `st_<key id>_<secret>`, of which only the SHA-256 is kept.
Guaranteed: a key bound to one source can't write into another; a revoked one is nobody.
Decision: a plain SHA-256 is enough for 256 random bits (nothing can be guessed), and costs 1 us a
request where a password hash would cost 100 ms.
"""

import hashlib
import hmac
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
class Caller:
    """Who a request comes from."""

    key_id: str
    role: Role
    source: str


def allows(role: Role, needed: Role) -> bool:
    """Whether a key of this role may do what needs the other one."""
    return needed in _INCLUDES[role]


def create_key(session: Session, role: Role, source: str) -> str:
    """Make a key; the returned text is the only copy.

    Raises ValueError naming `role` or `source` where it cannot be one.
    """
    if role not in ROLES:
        raise ValueError(f"role: {role!r} is none of {', '.join(ROLES)}")
    if not _SOURCE.fullmatch(source):
        raise ValueError(f"source: {source!r} must be 1 to 128 of A-Z a-z 0-9 . _ : -")
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
    return Caller(row.key_id, role, row.source)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
