"""The audit log: who changed what, when, from where, in which request.

In: a change, in its own transaction. Out: a row with it, or neither. Guaranteed: every route that
changes something writes one (a test walks them), no secret is among the details, and nothing here
changes or removes a row. Events are data and have no row; whose key sent them is their source.
"""

import getpass
import time
from typing import Annotated, Any

import orjson
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, Json
from sqlalchemy import select
from sqlalchemy.orm import Session

from control_api.paging import Order, Page, PageQuery
from control_api.request import Database, actor_of, admin_router
from ingest.database import read
from ingest.keys import Caller
from ingest.tables import AuditEntry

router = admin_router("audit")


class Entry(BaseModel):
    """One change."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    at: float
    actor: str = Field(description="source and id of the key; cli/USER: on the machine itself")
    address: str = Field(description="where the request came from")
    request_id: str | None = Field(description="as in the answer's X-Request-ID")
    action: str = Field(examples=["slice.save"])
    subject: str = Field(description="what was changed: a name or an id")
    detail: Json[dict[str, Any]] = Field(validation_alias="detail_json")


class AuditQuery(PageQuery):
    """Which changes."""

    actor: str | None = Field(None, max_length=200)
    action: str | None = Field(None, max_length=100)
    subject: str | None = Field(None, max_length=200)


_ENTRIES = Order(AuditEntry.number, newest_first=True)


def record(session: Session, caller: Caller, action: str, subject: str, **detail: object) -> None:
    """Write down a change, within its transaction."""
    session.add(
        AuditEntry(
            at=time.time(),
            actor=actor_of(caller),
            address=caller.address,
            request_id=caller.request_id,
            action=action,
            subject=subject,
            detail_json=orjson.dumps(detail).decode(),
        )
    )


def local_caller() -> Caller:
    """Who works on the machine itself, where the files are theirs anyway."""
    return Caller(key_id=getpass.getuser(), role="admin", source="cli")


@router.get("/audit")
def list_audit(engine: Database, asked: Annotated[AuditQuery, Query()]) -> Page[Entry]:
    """Changes, newest first."""
    query = select(AuditEntry)
    if asked.actor is not None:
        query = query.where(AuditEntry.actor == asked.actor)
    if asked.action is not None:
        query = query.where(AuditEntry.action == asked.action)
    if asked.subject is not None:
        query = query.where(AuditEntry.subject == asked.subject)
    with read(engine) as session:
        return _ENTRIES.page(session, query, asked, Entry.model_validate)
