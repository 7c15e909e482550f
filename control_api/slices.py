"""Slices over HTTP: named, saved filters over the buffer."""

import time
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from control_api.audit import record
from control_api.paging import Order, Page, PageQuery
from control_api.request import Curator, Database, actor_of, invalid, reading_router
from ingest import slices, tables
from ingest.database import read, write
from ingest.filters import FilterError

router = reading_router("slices")


class Slice(BaseModel):
    """A named, saved filter over the buffer."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    filter: str
    max_share_per_user: float
    max_uses: int | None
    created_at: float
    created_by: str


class NewSlice(BaseModel):
    """A slice to be made, or to be changed where the name is taken."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(examples=["fresh"])
    filter: str = Field(
        max_length=2000,
        description="space: and; -: not; comma: or within a field; empty: every sample",
        examples=["task:open_browser,create_folder age<7d -auto:yes"],
    )
    max_share_per_user: float = Field(
        slices.MAX_SHARE_PER_USER, description="of its draws, above 0, at most 1"
    )
    max_uses: int | None = Field(None, lt=2**31, description="per sample and run; null: no cap")


_SLICES = Order(tables.Slice.name)


@router.get("/slices")
def list_slices(engine: Database, asked: Annotated[PageQuery, Query()]) -> Page[Slice]:
    """All slices by name."""
    with read(engine) as session:
        return _SLICES.page(session, select(tables.Slice), asked, Slice.model_validate)


@router.post("/slices", status_code=201)
def save_slice(engine: Database, caller: Curator, new: NewSlice) -> Slice:
    """Save a slice; runs that draw from it see the change at their next adoption."""
    with write(engine) as session:
        try:
            saved = slices.save_slice(
                session,
                new.name,
                new.filter,
                actor=actor_of(caller),
                now=time.time(),
                max_share_per_user=new.max_share_per_user,
                max_uses=new.max_uses,
            )
        except FilterError as error:
            raise invalid("filter", str(error)) from error
        except slices.SliceError as error:
            raise invalid(error.field, str(error).removeprefix(f"{error.field}: ")) from error
        record(session, caller, "slice.save", saved.name, **new.model_dump(exclude={"name"}))
        return Slice.model_validate(saved)
