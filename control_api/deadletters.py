"""Dead letters over HTTP: what could not become an event, why, and its original bytes."""

from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Database, reading_router
from ingest import tables
from ingest.database import read
from ingest.openapi import problems

router = reading_router("dead letters")

EXCERPT_BYTES = 500
BYTES = "application/octet-stream"


class DeadLetter(BaseModel):
    """What could not become an event."""

    dead_letter_id: str
    source: str
    code: str
    detail: str
    excerpt: str = Field(description="its first 500 bytes as text; the whole is at /original")
    num_bytes: int
    received_at: float

    @classmethod
    def of(cls, row: tables.DeadLetter) -> "DeadLetter":
        """The row, its bytes as text where they are any."""
        return cls(
            dead_letter_id=row.dead_letter_id,
            source=row.source,
            code=row.code,
            detail=row.detail,
            excerpt=row.original[:EXCERPT_BYTES].decode(errors="replace"),
            num_bytes=len(row.original),
            received_at=row.received_at,
        )


class DeadLetterQuery(PageQuery):
    """Which dead letters."""

    code: str | None = Field(None, description="only those of this reason")
    source: str | None = None


_DEAD_LETTERS = Order(
    tables.DeadLetter.received_at, tables.DeadLetter.dead_letter_id, newest_first=True
)


@router.get("/deadletters")
def list_dead_letters(
    engine: Database, asked: Annotated[DeadLetterQuery, Query()]
) -> Page[DeadLetter]:
    """Dead letters, newest first."""
    query = select(tables.DeadLetter)
    if asked.code is not None:
        query = query.where(tables.DeadLetter.code == asked.code)
    if asked.source is not None:
        query = query.where(tables.DeadLetter.source == asked.source)
    with read(engine) as session:
        return _DEAD_LETTERS.page(session, query, asked, DeadLetter.of)


@router.get(
    "/deadletters/{dead_letter_id}/original",
    response_class=Response,
    responses={200: {"content": {BYTES: {}}, "description": "As it came"}, **problems(404)},
)
def get_original(engine: Database, dead_letter_id: str) -> Response:
    """The original bytes, to be saved and never shown as a page."""
    with read(engine) as session:
        row = session.get(tables.DeadLetter, dead_letter_id)
        if row is None:
            raise none_found("dead letter", dead_letter_id)
        headers = {"Content-Disposition": f'attachment; filename="{row.dead_letter_id}"'}
        return Response(row.original, media_type=BYTES, headers=headers)
