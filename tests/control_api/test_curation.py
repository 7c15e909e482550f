"""Slices and mixes over HTTP: saved by operators, versioned, refused by field."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from ingest.database import write
from tests.factories import make_samples


def test_a_slice_is_saved_and_changed_under_its_name(operator: TestClient) -> None:
    for filter_text in ("task:scroll", "task:open_browser"):
        saved = operator.post("/v1/slices", json={"name": "fresh", "filter": filter_text})
        assert saved.status_code == 201
    (listed,) = operator.get("/v1/slices").json()["items"]
    assert (listed["filter"], listed["max_share_per_user"]) == ("task:open_browser", 0.1)
    assert listed["created_by"].startswith("source-of-operator/")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"filter": "tsk:x"}, "filter"),
        ({"name": "Not This"}, "name"),
        ({"max_share_per_user": 0}, "max_share_per_user"),
        ({"max_uses": 0}, "max_uses"),
        ({"maxuses": 1}, "maxuses"),
    ],
)
def test_a_wrong_slice_is_refused_by_field(
    operator: TestClient, changed: dict[str, object], field: str
) -> None:
    answer = operator.post("/v1/slices", json={"name": "fresh", "filter": ""} | changed)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert operator.get("/v1/slices").json()["total"] == 0


@pytest.fixture
def curator(operator: TestClient) -> TestClient:
    """An operator who has two slices."""
    for name, filter_text in (("fresh", "task:open_browser"), ("rest", "-task:open_browser")):
        operator.post("/v1/slices", json={"name": name, "filter": filter_text})
    return operator


def test_an_edit_makes_the_mixs_next_version(curator: TestClient) -> None:
    for shares in ({"fresh": 1, "rest": 3}, {"fresh": 2, "rest": 2}):
        curator.post("/v1/mixes", json={"name": "half", "shares": shares})
    curator.post("/v1/mixes", json={"name": "other", "shares": {"rest": 1}})
    items = curator.get("/v1/mixes", params={"name": "half"}).json()["items"]
    assert [(item["version"], item["shares"]) for item in items] == [
        (2, {"fresh": 0.5, "rest": 0.5}),
        (1, {"fresh": 0.25, "rest": 0.75}),
    ]
    assert curator.get("/v1/mixes").json()["total"] == 3


@pytest.mark.parametrize("path", ["/v1/mixes", "/v1/mixes/preview"])
@pytest.mark.parametrize(
    ("shares", "field"),
    [
        ({"gone": 1.0}, "shares.gone"),
        ({"fresh": -1.0, "rest": 1.0}, "shares.fresh"),
        ({"fresh": 0.0}, "shares"),
        ({}, "shares"),
    ],
)
def test_wrong_shares_are_refused_by_slice(
    curator: TestClient, path: str, shares: dict[str, float], field: str
) -> None:
    named = {} if path.endswith("preview") else {"name": "half"}
    answer = curator.post(path, json={"shares": shares, **named})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_a_preview_tells_what_would_be_drawn_and_stores_nothing(
    curator: TestClient, engine: Engine
) -> None:
    with write(engine) as session:
        make_samples(session, tasks=("open_browser",))
        make_samples(session, tasks=("scroll",))
    answer = curator.post("/v1/mixes/preview", json={"shares": {"fresh": 0.8, "rest": 0.2}})
    drawn = {part["slice"]: part["expected_draws"] for part in answer.json()["slices"]}
    assert drawn == {"fresh": 800.0, "rest": 200.0}
    assert curator.get("/v1/mixes").json()["total"] == 0
