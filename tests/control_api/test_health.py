"""Alive, ready, and who: the routes that supervisors, balancers and shippers ask."""

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from control_api.app import create_app
from ingest.database import write
from ingest.settings import Settings
from tests.control_api.conftest import BASE_URL


def test_it_is_ready_when_all_it_needs_is_there(anonymous: TestClient) -> None:
    assert anonymous.get("/livez").json() == {"status": "live"}
    answer = anonymous.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["checks"] == {"database": "ok", "schema": "ok", "log": "ok"}


def test_an_older_schema_is_not_ready_and_says_the_fix(
    anonymous: TestClient, engine: Engine
) -> None:
    with write(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    answer = anonymous.get("/readyz")
    assert answer.status_code == 503
    assert "stovetop db upgrade" in answer.json()["checks"]["schema"]


def test_a_log_that_is_gone_is_not_ready(anonymous: TestClient, app: FastAPI) -> None:
    app.state.event_log.close()
    answer = anonymous.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["log"] != "ok"


def test_an_installation_keeps_its_id_over_restarts(viewer: TestClient, settings: Settings) -> None:
    first = viewer.get("/v1/instance").json()
    assert (first["role"], first["source"]) == ("viewer", "source-of-viewer")
    with TestClient(create_app(settings), BASE_URL, headers=dict(viewer.headers)) as restarted:
        assert restarted.get("/v1/instance").json() == first
