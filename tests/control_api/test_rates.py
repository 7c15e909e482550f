"""Too much is answered 429 with a time to come again, by key and by address."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from control_api.app import create_app
from ingest.database import read, write
from ingest.keys import Role, create_key
from ingest.settings import Settings
from ingest.tables import ApiKey
from tests.control_api.conftest import BASE_URL
from tests.intake import wire_event

TIGHT = {
    "max_requests_per_min": 20,
    "max_changes_per_min": 2,
    "max_events_per_min": 5,
    "max_failures_per_min": 3,
}


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """An installation that allows little."""
    with TestClient(create_app(settings.model_copy(update=TIGHT)), BASE_URL) as client:
        yield client


def headers(engine: Engine, role: Role) -> dict[str, str]:
    with write(engine) as session:
        return {"X-API-Key": create_key(session, role, "somebody")}


def test_a_key_that_asks_too_often_is_told_to_wait_and_others_are_not(
    client: TestClient, engine: Engine
) -> None:
    eager, calm = headers(engine, "viewer"), headers(engine, "viewer")
    answers = [client.get("/v1/instance", headers=eager) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert int(answers[-1].headers["Retry-After"]) in range(1, 4)
    assert answers[-1].headers["Content-Type"] == "application/problem+json"
    assert client.get("/v1/instance", headers=calm).status_code == 200


def test_changes_have_an_allowance_of_their_own(client: TestClient, engine: Engine) -> None:
    operator = headers(engine, "operator")
    body = {"name": "all", "filter": ""}
    statuses = [client.post("/v1/slices", json=body, headers=operator) for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [201, 201, 429]
    assert client.get("/v1/slices", headers=operator).status_code == 200


def test_events_are_counted_and_none_of_a_refused_batch_is_kept(
    client: TestClient, engine: Engine
) -> None:
    ingest = headers(engine, "ingest")

    def post(first: int) -> int:
        events = [wire_event(number) for number in range(first, first + 3)]
        return client.post("/v1/events", json=events, headers=ingest).status_code

    assert [post(0), post(3), post(6)] == [202, 202, 429]
    assert client.app.state.event_log.num_waiting({}) <= 2  # type: ignore[attr-defined]


def test_failures_of_an_address_are_slowed_down_and_good_keys_there_are_not(
    client: TestClient, engine: Engine
) -> None:
    wrong = {"X-API-Key": "st_" + "0" * 16 + "_" + "A" * 43}
    statuses = [client.get("/v1/runs", headers=each).status_code for each in (wrong, {}, wrong)]
    assert statuses == [401, 401, 401]
    assert client.get("/v1/runs", headers=wrong).status_code == 429
    assert client.post("/v1/sign-in", json={"key": "guessed"}).status_code == 429
    assert client.get("/v1/runs", headers=headers(engine, "viewer")).status_code == 200


def test_use_is_noted_without_a_write_per_request(client: TestClient, engine: Engine) -> None:
    viewer = headers(engine, "viewer")
    used = set()
    for _ in range(5):
        client.get("/v1/runs", headers=viewer)
        with read(engine) as session:
            used.add(session.query(ApiKey.last_used_at).scalar())
    assert len(used) == 1
    assert None not in used


def test_a_use_that_can_not_be_noted_fails_no_request(client: TestClient, engine: Engine) -> None:
    viewer = headers(engine, "viewer")
    with write(engine):  # somebody holds the database's only writer's place
        assert client.get("/v1/runs", headers=viewer).status_code == 200
