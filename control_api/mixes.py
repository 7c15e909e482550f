"""Mixes over HTTP: shares over slices, versioned, and what the next draws of some would be."""

import time
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, Json
from sqlalchemy import select

from control_api.audit import record
from control_api.paging import Order, Page, PageQuery
from control_api.request import Curator, Database, actor_of, invalid, reading_router
from ingest import slices, tables
from ingest.buffer import FRAME, latest_revision
from ingest.database import read, write
from ingest.preview import Preview
from ingest.problems import Problem

router = reading_router("mixes")

Shares = Annotated[
    dict[str, float],
    Field(
        min_length=1,
        max_length=100,
        description="wanted share of each slice by name; scaled to sum 1",
        examples=[{"everyday": 0.5, "fresh": 0.5}],
    ),
]


class Mix(BaseModel):
    """One version of a mix; an edit makes the next."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    version: int
    shares: Json[dict[str, float]] = Field(validation_alias="shares_json")
    created_at: float
    created_by: str


class NewMix(BaseModel):
    """The next version of a mix."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(examples=["half"])
    shares: Shares


class PreviewedShares(BaseModel):
    """Shares to look at before they are saved."""

    model_config = ConfigDict(extra="forbid")

    shares: Shares
    representation: str = Field(FRAME, description="`frame`, or a run's own representation")


class MixQuery(PageQuery):
    """Which mixes."""

    name: str | None = Field(None, description="only the versions of this one")


_MIXES = Order(tables.Mix.name, tables.Mix.version, newest_first=True)


@router.get("/mixes")
def list_mixes(engine: Database, asked: Annotated[MixQuery, Query()]) -> Page[Mix]:
    """All versions of all mixes, or of one, the newest version of a mix first."""
    query = select(tables.Mix)
    if asked.name is not None:
        query = query.where(tables.Mix.name == asked.name)
    with read(engine) as session:
        return _MIXES.page(session, query, asked, Mix.model_validate)


@router.post("/mixes", status_code=201)
def save_mix(engine: Database, caller: Curator, new: NewMix) -> Mix:
    """Save the next version of a mix; a run takes it by the command `set_mix`."""
    with write(engine) as session:
        try:
            saved = slices.save_mix(
                session, new.name, new.shares, actor=actor_of(caller), now=time.time()
            )
        except slices.SliceError as error:
            raise _refused(error) from error
        record(session, caller, "mix.save", saved.name, version=saved.version, shares=new.shares)
        return Mix.model_validate(saved)


@router.post("/mixes/preview")
def preview_mix(engine: Database, asked: PreviewedShares) -> Preview:
    """What the next 1,000 draws of these shares would be; nothing is stored."""
    with read(engine) as session:
        try:
            return slices.preview(
                session,
                asked.shares,
                revision=latest_revision(session),
                representation=asked.representation,
            )
        except slices.SliceError as error:
            raise _refused(error) from error


def _refused(error: slices.SliceError) -> Problem:
    return invalid(error.field, str(error).removeprefix(f"{error.field}: "))
