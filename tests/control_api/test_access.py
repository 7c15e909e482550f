"""Every route declares who may call it, keeps to that, and the API describes itself completely."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import update
from starlette.routing import Mount

from control_api.guard import DESCRIPTION_PATH, Undeclared, check_guarded, roles_of
from ingest.access import require
from ingest.database import write
from ingest.keys import Caller, Role
from ingest.tables import ApiKey
from tests.control_api.conftest import AsRole

ROLES: tuple[Role, ...] = get_args(Role)
READERS = {"viewer", "operator", "admin"}
OPEN = {("GET", "/"), ("GET", "/livez"), ("GET", "/readyz"), ("POST", "/v1/sign-in")}
# The only other routes that are not "read: viewer, write: operator".
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("POST", "/v1/events"): {"ingest", "admin"},
    ("POST", "/v1/logs/neuralos"): {"ingest", "admin"},
    ("GET", "/v1/instance"): set(ROLES),
    ("POST", "/v1/mixes/preview"): READERS,
    ("DELETE", "/v1/sign-in"): set(ROLES),
    ("GET", "/v1/keys"): {"admin"},
    ("DELETE", "/v1/keys/{key_id}"): {"admin"},
    ("GET", "/v1/audit"): {"admin"},
    ("PATCH", "/v1/sources/{name}"): {"admin"},
    ("DELETE", "/v1/users/{user_id}"): {"admin"},
    ("DELETE", "/v1/sessions/{session_id}"): {"admin"},
    ("GET", "/v1/tombstones"): {"admin"},
}


def routes(app: FastAPI) -> Iterator[tuple[str, str, RouteContext]]:
    """Every method of every route that the app serves, in its description or not."""
    for route in iter_route_contexts(app.routes):
        for method in route.methods or {"GET"}:
            if route.path != DESCRIPTION_PATH:
                yield method, str(route.path), route


def guarded(app: FastAPI) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in routes(app) if (method, path) not in OPEN]


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def allowed(method: str, path: str) -> set[str]:
    default = READERS if method == "GET" else {"operator", "admin"}
    return ALLOWED.get((method, path), default)


def filled(path: str) -> str:
    return path.replace("{number}", "1").replace("{", "").replace("}", "")


def test_the_walk_sees_every_operation_of_the_description(app: FastAPI) -> None:
    described = {(method.upper(), path) for method, path, _ in operations(app)}
    assert len(described) > 30
    assert {(method, path) for method, path, _ in routes(app)} == described | {("GET", "/")}


def test_every_route_declares_the_roles_that_it_is_for(app: FastAPI) -> None:
    for method, path, route in routes(app):
        expected = None if (method, path) in OPEN else allowed(method, path)
        assert (method, path, roles_of(route)) == (method, path, expected)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_app_with_a_route_that_declares_no_role_does_not_start(
    app: FastAPI, method: str
) -> None:
    router = APIRouter()
    router.add_api_route("/v1/forgotten", lambda: "secret", methods=[method])
    app.include_router(router)
    with pytest.raises(Undeclared, match="/v1/forgotten"), TestClient(app):
        pass


def test_an_app_with_a_mount_does_not_start(app: FastAPI) -> None:
    app.router.routes.append(Mount("/files", app=FastAPI()))
    with pytest.raises(Undeclared, match="/files"), TestClient(app):
        pass


def test_a_role_that_is_needed_deep_in_the_dependencies_counts(app: FastAPI) -> None:
    def checked(caller: Annotated[Caller, Depends(require("admin"))]) -> Caller:
        return caller

    @app.get("/v1/deep")
    def deep(caller: Annotated[Caller, Depends(checked)]) -> str:
        return caller.role

    check_guarded(app)


def test_no_guarded_route_answers_without_a_key(app: FastAPI, anonymous: TestClient) -> None:
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
    served = [(method, path) for method, path, _ in routes(app)]
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
