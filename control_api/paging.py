"""Lists over HTTP: keyset pages `{items, total, next}` of any query.

In: a query, the columns that order it, and the caller's `limit` and `cursor`. Out: one page.
Guaranteed: walking `next` to its end gives every row that was there throughout exactly once,
whatever comes and goes meanwhile: a cursor holds the last row's own values and no offset.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, func, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from ingest.problems import FieldError, Problem

MAX_LIMIT = 1000
DEFAULT_LIMIT = 50

Row = TypeVar("Row")
Item = TypeVar("Item")
Value = str | int | float


class PageQuery(BaseModel):
    """What every list takes; an unknown parameter is refused, never ignored."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="most items in the answer")
    cursor: str | None = Field(None, max_length=500, description="`next` of the page before")


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    total: int = Field(description="how many items the whole list has")
    next: str | None = Field(description="cursor of the next page; null on the last one")


class Order:
    """The columns that order a list, their values unique together, all in one direction."""

    def __init__(self, *columns: InstrumentedAttribute[Any], newest_first: bool = False) -> None:
        self._columns = columns
        self._newest_first = newest_first
        self._list = columns[0].class_.__tablename__

    def page(
        self,
        session: Session,
        query: Select[Row],
        asked: PageQuery,
        show: Callable[[Row], Item],
    ) -> Page[Item]:
        """One page of the rows that match, each as `show` gives it.

        Raises Problem 422 naming `cursor` when it is none of this list.
        """
        count = query.with_only_columns(func.count(), maintain_column_froms=True)
        total = session.scalar(count) or 0
        rows = session.scalars(self._after(query, asked.cursor).limit(asked.limit + 1)).all()
        shown, more = rows[: asked.limit], rows[asked.limit :]
        following = self._cursor(shown[-1]) if more else None
        return Page(items=[show(row) for row in shown], total=total, next=following)

    def _after(self, query: Select[Row], cursor: str | None) -> Select[Row]:
        ordered = query.order_by(*(c.desc() if self._newest_first else c for c in self._columns))
        if cursor is None:
            return ordered
        key, last = tuple_(*self._columns), self._values(cursor)
        return ordered.where(key < last if self._newest_first else key > last)

    def _cursor(self, row: object) -> str:
        values = [getattr(row, column.key) for column in self._columns]
        return base64.urlsafe_b64encode(orjson.dumps([self._list, *values])).decode()

    def _values(self, cursor: str) -> tuple[Value, ...]:
        """The column values in a cursor, refused unless they are of this list's own types."""
        try:
            name, *values = orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        except (binascii.Error, ValueError, TypeError):
            raise _foreign_cursor() from None
        types = [column.type.python_type for column in self._columns]
        if name != self._list or [type(value) for value in values] != types:
            raise _foreign_cursor()
        if any(isinstance(value, int) and not abs(value) < 2**63 for value in values):
            raise _foreign_cursor()  # no database would hold it
        return tuple(values)


def none_found(noun: str, wanted: object) -> Problem:
    """The 404 for one thing that is asked for by its id."""
    return Problem(404, "Not found", f"there is no {noun} {wanted!r}")


def _foreign_cursor() -> Problem:
    fix = "is no cursor of this list; pass `next` of the page before, or leave it out"
    errors: Sequence[FieldError] = [FieldError(field="cursor", message=fix)]
    return Problem(422, "Invalid request", f"cursor: {fix}", errors=errors)
