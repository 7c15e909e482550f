"""Keyset pages: complete, stable while rows come and go, and safe against made-up cursors."""

import base64

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

from control_api.paging import Order, Page, PageQuery
from ingest.database import write
from ingest.slices import save_slice
from ingest.tables import Base, LogOffset

ORDER = Order(LogOffset.next_offset, LogOffset.log_id, LogOffset.partition)
NEWEST_FIRST = Order(
    LogOffset.next_offset, LogOffset.log_id, LogOffset.partition, newest_first=True
)

Key = tuple[int, str, int]


def page_of(session: Session, order: Order, limit: int, cursor: str | None) -> Page[Key]:
    return order.page(
        session,
        select(LogOffset),
        PageQuery(limit=limit, cursor=cursor),
        lambda row: (row.next_offset, row.log_id, row.partition),
    )


def walk(session: Session, order: Order, limit: int) -> list[Key]:
    seen: list[Key] = []
    cursor: str | None = None
    while True:
        page = page_of(session, order, limit, cursor)
        seen += page.items
        cursor = page.next
        if cursor is None:
            return seen


@given(
    keys=st.sets(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]), st.integers(0, 5)), max_size=30
    ),
    limit=st.integers(1, 7),
    newest_first=st.booleans(),
)
def test_walking_the_pages_gives_every_row_once_in_order(
    keys: set[Key], limit: int, newest_first: bool
) -> None:
    engine = create_engine("sqlite://")
    Base.metadata.tables["log_offsets"].create(engine)
    unique = {(log_id, partition): offset for offset, log_id, partition in keys}
    with Session(engine) as session:
        session.add_all(
            LogOffset(log_id=log_id, partition=partition, next_offset=offset)
            for (log_id, partition), offset in unique.items()
        )
        session.flush()
        expected = sorted((offset, *key) for key, offset in unique.items())
        order = NEWEST_FIRST if newest_first else ORDER
        assert walk(session, order, limit) == (expected[::-1] if newest_first else expected)
    engine.dispose()


def save_slices(engine: Engine, *names: str) -> None:
    with write(engine) as session:
        for name in names:
            save_slice(session, name, "", actor="test", now=0.0)


def test_a_row_that_comes_between_two_pages_moves_nobody(
    engine: Engine, viewer: TestClient
) -> None:
    save_slices(engine, "b", "d", "f")
    first = viewer.get("/v1/slices", params={"limit": 2}).json()
    save_slices(engine, "a")
    second = viewer.get("/v1/slices", params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["name"] for item in first["items"] + second["items"]] == ["b", "d", "f"]
    assert second["next"] is None


def test_total_counts_the_whole_list(engine: Engine, viewer: TestClient) -> None:
    save_slices(engine, "a", "b", "c")
    assert viewer.get("/v1/slices", params={"limit": 1}).json()["total"] == 3


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "\u00e4",
        encoded(7),
        encoded({"slices": 1}),
        encoded(["runs", 1.0, "x"]),
        encoded(["slices", 7]),
        encoded(["slices", None]),
        encoded(["slices", "a", "b"]),
        base64.urlsafe_b64encode(b'["slices", "\\ud800"]').decode(),
    ],
)
def test_what_is_no_cursor_of_the_list_is_refused_by_name(viewer: TestClient, cursor: str) -> None:
    answer = viewer.get("/v1/slices", params={"cursor": cursor})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["cursor"]


def test_a_number_that_no_database_holds_is_no_cursor(viewer: TestClient) -> None:
    answer = viewer.get("/v1/samples", params={"cursor": encoded(["samples", 2**63])})
    assert answer.status_code == 422


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"limt": 5}])
def test_a_wrong_parameter_is_refused_by_name(viewer: TestClient, query: dict[str, int]) -> None:
    answer = viewer.get("/v1/slices", params=query)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == list(query)
