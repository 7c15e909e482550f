"""Every route under /v1 needs a key of the right role, and the API describes itself completely."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import update

from ingest.database import write
from ingest.keys import Role
from ingest.tables import ApiKey
from tests.control_api.conftest import AsRole

ROLES: tuple[Role, ...] = get_args(Role)
READERS = {"viewer", "operator", "admin"}
# The only routes that are not "read: viewer, write: operator".
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("post", "/v1/events"): {"ingest", "admin"},
    ("post", "/v1/logs/neuralos"): {"ingest", "admin"},
    ("get", "/v1/instance"): set(ROLES),
    ("post", "/v1/mixes/preview"): READERS,
}


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def guarded(app: FastAPI) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in operations(app) if path.startswith("/v1/")]


def allowed(method: str, path: str) -> set[str]:
    default = READERS if method == "get" else {"operator", "admin"}
    return ALLOWED.get((method, path), default)


def filled(path: str) -> str:
    return path.replace("{number}", "1").replace("{", "").replace("}", "")


def test_nothing_under_v1_answers_without_a_key(app: FastAPI, anonymous: TestClient) -> None:
    for method, path in guarded(app):
        answer = anonymous.request(method, filled(path))
        assert (method, path, answer.status_code) == (method, path, 401)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("role", ROLES)
def test_a_route_answers_the_roles_that_it_is_for_and_no_other(
    app: FastAPI, as_role: AsRole, role: Role
) -> None:
    client = as_role(role)
    for method, path in guarded(app):
        status = client.request(method, filled(path)).status_code
        is_refused = status in (401, 403)
        assert (method, path, is_refused) == (method, path, role not in allowed(method, path))
        assert status < 500


def test_every_refusal_is_described_as_problem_json(app: FastAPI) -> None:
    for method, path, operation in operations(app):
        if not path.startswith("/v1/"):
            continue
        refusals = {
            int(status): answer
            for status, answer in operation["responses"].items()
            if int(status) >= 400
        }
        assert (method, path, {401} <= refusals.keys()) == (method, path, True)
        for answer in refusals.values():
            assert list(answer["content"]) == ["application/problem+json"]


def test_no_route_hides_another(app: FastAPI) -> None:
    served = [
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    ]
    assert len(served) == len(set(served))


def test_every_operation_says_what_it_does(app: FastAPI) -> None:
    assert [path for _, path, operation in operations(app) if not operation["description"]] == []


def test_every_list_takes_limit_and_cursor(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    for _, path, operation in operations(app):
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json")
        reference = (schema or {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        if "items" not in schemas.get(reference, {}).get("properties", {}):
            continue
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert (path, {"limit", "cursor"} <= names) == (path, True)
        assert set(schemas[reference]["properties"]) == {"items", "total", "next"}


def test_a_revoked_key_is_refused(as_role: AsRole, app: FastAPI) -> None:
    client = as_role("viewer")
    with write(app.state.engine) as session:
        session.execute(update(ApiKey).values(revoked_at=1.0))
    assert client.get("/v1/runs").status_code == 401
