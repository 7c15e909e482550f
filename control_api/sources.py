"""Sources over HTTP: who sends, and whether runs may learn from them, and what is redacted."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from control_api.audit import record
from control_api.paging import Order, Page, PageQuery, none_found
from control_api.request import Administrator, Database, invalid, reading_router
from ingest import tables
from ingest.database import read, write
from ingest.openapi import problems
from ingest.redaction import Redaction
from ingest.sources import redact, release, withdraw

router = reading_router("sources")


class Source(BaseModel):
    """Who sends; what the events of a key belong to."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    created_at: float
    released_at: float | None = Field(description="null: quarantined, in no slice")
    released_revision: int | None = Field(description="of the buffer, from which slices have it")
    redaction: Redaction = Field(description="of what people typed, before it is kept")


class SourceChange(BaseModel):
    """What is to change of a source; what is null stays."""

    model_config = ConfigDict(extra="forbid")

    is_released: bool | None = Field(None, description="false: its samples leave all slices")
    redaction: Redaction | None = Field(
        None,
        description="keep; mask: typed characters become x; drop: they are left out. Holds for "
        "what comes from now on; a redacted source's documents are refused",
    )


_SOURCES = Order(tables.Source.name)


@router.get("/sources")
def list_sources(engine: Database, asked: Annotated[PageQuery, Query()]) -> Page[Source]:
    """All sources by name."""
    with read(engine) as session:
        return _SOURCES.page(session, select(tables.Source), asked, Source.model_validate)


@router.patch("/sources/{name}", responses=problems(404))
def change_source(
    engine: Database, caller: Administrator, name: str, change: SourceChange
) -> Source:
    """Release, withdraw or redact a source; runs follow with their next adoption."""
    if change.is_released is None and change.redaction is None:
        raise invalid("is_released", "nothing is to change: say is_released or redaction")
    with write(engine) as session:
        try:
            if change.is_released is not None:
                source = (release if change.is_released else withdraw)(session, name)
                action = "source.release" if change.is_released else "source.withdraw"
                record(session, caller, action, name)
            if change.redaction is not None:
                source = redact(session, name, change.redaction)
                record(session, caller, "source.redact", name, redaction=change.redaction)
        except LookupError as error:
            raise none_found("source", name) from error
        return Source.model_validate(source)
