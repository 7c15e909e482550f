"""A request for another host, or from another site's page, gets nothing."""

import pytest
from fastapi.testclient import TestClient

from control_api.app import create_app
from ingest.settings import Settings


def test_the_names_of_this_machine_are_known(anonymous: TestClient) -> None:
    for host in ("localhost", "LOCALHOST:7420", "127.0.0.1", "127.0.0.1:7420", "[::1]:7420"):
        assert (host, anonymous.get("/livez", headers={"Host": host}).status_code) == (host, 200)


FOREIGN = (
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example:7420",
    "10.0.0.1",
    "",
    "127.0.0.1@evil.example",
    "127.0.0.1:7420/x",
    "[::1",
)


@pytest.mark.parametrize("path", ["/", "/livez", "/v1/runs"])
def test_a_name_that_somebody_points_here_gets_nothing(anonymous: TestClient, path: str) -> None:
    for host in FOREIGN:
        answer = anonymous.get(path, headers={"Host": host})
        assert (host, answer.status_code) == (host, 421)
        assert "STOVETOP_ALLOWED_HOSTS" in answer.json()["detail"]


def statuses(settings: Settings, *hosts: str) -> list[int]:
    with TestClient(create_app(settings)) as client:
        return [client.get("/livez", headers={"Host": host}).status_code for host in hosts]


def test_a_server_on_every_address_takes_addresses_and_no_names(settings: Settings) -> None:
    everywhere = settings.model_copy(update={"host": "0.0.0.0"})  # noqa: S104
    assert statuses(everywhere, "10.0.0.1:7420", "[fe80::1]", "stovetop.lan") == [200, 200, 421]


def test_a_listed_name_is_known(settings: Settings) -> None:
    listed = settings.model_copy(update={"allowed_hosts": "stovetop.lan, api"})
    assert statuses(listed, "stovetop.lan", "api:7420", "app") == [200, 200, 421]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_another_sites_page_is_refused_whatever_it_asks(viewer: TestClient, method: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = viewer.request(method, "/v1/runs", headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_no_answer_opens_cors(viewer: TestClient) -> None:
    answer = viewer.get("/v1/runs", headers={"Origin": "http://127.0.0.1"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_answer_names_its_request(anonymous: TestClient) -> None:
    given = anonymous.get("/livez", headers={"X-Request-ID": "from-the-proxy"})
    assert given.headers["X-Request-ID"] == "from-the-proxy"
    made = {anonymous.get("/livez").headers["X-Request-ID"] for _ in range(2)}
    assert len(made) == 2


@pytest.mark.parametrize("request_id", ["", "two words", "x" * 65, "a\tb"])
def test_what_is_no_request_id_is_replaced(anonymous: TestClient, request_id: str) -> None:
    answer = anonymous.get("/livez", headers={"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] != request_id
