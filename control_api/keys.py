"""API keys over HTTP: which there are, when each was last used, and an end to one.

Keys are made on the machine itself (`stovetop keys create`), so that no key can make another.
"""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from control_api.audit import record
from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Administrator, Database, admin_router
from ingest.database import read, write
from ingest.keys import Caller, Kind, Role, revoke
from ingest.openapi import problems
from ingest.tables import ApiKey

router = admin_router("keys")


class Key(BaseModel):
    """What is known of a key, which is not the key itself."""

    model_config = ConfigDict(from_attributes=True)

    key_id: str
    kind: Kind
    role: Role
    source: str
    parent_id: str | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    max_lr_factor: float | None
    max_commands: int | None
    needs_approval: bool


class KeyQuery(PageQuery):
    """Which keys."""

    kind: Kind | None = None
    source: str | None = None


_KEYS = Order(ApiKey.created_at, ApiKey.key_id, newest_first=True)


def revoke_key(session: Session, caller: Caller, key_id: str) -> Key:
    """Let a key be nobody's from now on, and write down who did. Raises LookupError."""
    row = revoke(session, key_id)
    record(session, caller, "key.revoke", key_id, role=row.role, source=row.source)
    return Key.model_validate(row)


@router.get("/keys")
def list_keys(engine: Database, asked: Annotated[KeyQuery, Query()]) -> Page[Key]:
    """Keys, newest first; those that are over, too."""
    query = select(ApiKey)
    if asked.kind is not None:
        query = query.where(ApiKey.kind == asked.kind)
    if asked.source is not None:
        query = query.where(ApiKey.source == asked.source)
    with read(engine) as session:
        return _KEYS.page(session, query, asked, Key.model_validate)


@router.delete("/keys/{key_id}", responses=problems(404))
def delete_key(engine: Database, caller: Administrator, key_id: str) -> Key:
    """Revoke a key, or end a browser's session; a browser that signed in with it is out, too."""
    with write(engine) as session:
        try:
            return revoke_key(session, caller, key_id)
        except LookupError as error:
            raise none_found("key", key_id) from error
