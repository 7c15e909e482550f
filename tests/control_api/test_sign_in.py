"""Signing in: a one-time address or a key becomes a cookie, good for this server's page alone."""

import time
from collections.abc import Callable
from http.cookies import SimpleCookie
from threading import Barrier, Thread

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Engine, update

from control_api.audit import local_caller
from control_api.sign_in import new_address
from ingest.database import read, write
from ingest.keys import Limits, Role, create_key, revoke
from ingest.tables import ApiKey
from tests.control_api.conftest import BASE_URL

OWN = {"Origin": BASE_URL}


@pytest.fixture
def browser(anonymous: TestClient) -> TestClient:
    """A browser that is not signed in."""
    return TestClient(anonymous.app, BASE_URL, raise_server_exceptions=False)


def offer(engine: Engine, role: Role = "viewer") -> str:
    """The token of an address, as it was printed."""
    with write(engine) as session:
        return new_address(session, BASE_URL, local_caller(), role).partition("#once=")[2]


def sign_in(browser: TestClient, key: str) -> Response:
    return browser.post("/v1/sign-in", json={"key": key}, headers=OWN)


def test_an_address_signs_a_browser_in_to_look(browser: TestClient, engine: Engine) -> None:
    answer = sign_in(browser, offer(engine))
    assert answer.status_code == 200
    assert answer.json()["role"] == "viewer"
    assert browser.get("/v1/runs").status_code == 200


def test_the_cookie_is_for_this_server_and_no_script(browser: TestClient, engine: Engine) -> None:
    answer = sign_in(browser, offer(engine))
    [cookie] = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert cookie["domain"] == ""
    assert 43_000 < int(cookie["max-age"]) <= 43_200
    assert cookie.value not in answer.text


def test_over_https_the_cookie_never_leaves_it(anonymous: TestClient, engine: Engine) -> None:
    browser = TestClient(anonymous.app, "https://127.0.0.1")
    answer = browser.post("/v1/sign-in", json={"key": offer(engine)})
    assert "Secure" in answer.headers["Set-Cookie"]


def test_servers_on_two_ports_keep_their_cookies_apart(app: FastAPI, engine: Engine) -> None:
    """A browser sends the cookies of a host to all of its ports."""
    names = set()
    for port in (7420, 7421):
        with TestClient(app, f"http://127.0.0.1:{port}") as browser:
            answer = browser.post("/v1/sign-in", json={"key": offer(engine)})
            names |= set(SimpleCookie(answer.headers["Set-Cookie"]))
    assert names == {"stovetop-7420", "stovetop-7421"}


def test_an_address_is_good_once(browser: TestClient, engine: Engine) -> None:
    token = offer(engine)
    assert sign_in(browser, token).status_code == 200
    again = sign_in(TestClient(browser.app, BASE_URL), token)
    assert again.status_code == 401
    assert "stovetop sign-in" in again.json()["detail"]


def test_of_two_browsers_at_once_one_gets_in(browser: TestClient, engine: Engine) -> None:
    token, together, statuses = offer(engine), Barrier(4), []

    def race() -> None:
        other = TestClient(browser.app, BASE_URL)
        together.wait()
        statuses.append(sign_in(other, token).status_code)

    racers = [Thread(target=race) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(statuses) == [200, 401, 401, 401]


def test_only_the_address_printed_last_is_good(browser: TestClient, engine: Engine) -> None:
    first, second = offer(engine), offer(engine)
    assert sign_in(browser, first).status_code == 401
    assert sign_in(browser, second).status_code == 200


def test_an_address_is_over_after_an_hour(browser: TestClient, engine: Engine) -> None:
    token = offer(engine)
    expire(engine, "link")
    assert sign_in(browser, token).status_code == 401


def test_the_token_of_an_address_is_no_key_and_no_cookie(
    browser: TestClient, engine: Engine
) -> None:
    token = offer(engine, "admin")
    assert browser.get("/v1/runs", headers={"X-API-Key": token}).status_code == 401
    browser.cookies.set("stovetop-page", token)
    assert browser.get("/v1/runs").status_code == 401


def test_a_cookie_is_no_key_and_a_key_no_cookie(
    browser: TestClient, engine: Engine, make_key: Callable[[Role], str]
) -> None:
    sign_in(browser, offer(engine))
    cookie = browser.cookies["stovetop-page"]
    other = TestClient(browser.app, BASE_URL)
    assert other.get("/v1/runs", headers={"X-API-Key": cookie}).status_code == 401
    other.cookies.set("stovetop-page", make_key("admin"))
    assert other.get("/v1/runs").status_code == 401


def test_a_key_signs_a_browser_in_as_what_it_is(
    browser: TestClient, make_key: Callable[[Role], str]
) -> None:
    assert sign_in(browser, make_key("operator")).json()["role"] == "operator"
    saved = browser.post("/v1/slices", json={"name": "all", "filter": ""}, headers=OWN)
    assert saved.status_code == 201


def test_a_browser_acts_under_the_limits_and_the_name_of_its_key(
    browser: TestClient, engine: Engine
) -> None:
    with write(engine) as session:
        key = create_key(session, "operator", "agent", Limits(max_commands=3))
    by_key = browser.get("/v1/instance", headers={"X-API-Key": key}).json()
    for _ in range(2):  # signing in anew is no new account
        sign_in(browser, key)
        assert browser.get("/v1/instance").json() == by_key


@pytest.mark.parametrize("key", ["", "st_", "x" * 201, "st_" + "0" * 16 + "_" + "A" * 43])
def test_what_is_no_key_signs_nobody_in(browser: TestClient, key: str) -> None:
    answer = sign_in(browser, key)
    assert answer.status_code in (401, 422)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://127.0.0.1.evil.example"},
    ],
)
def test_a_cookie_changes_nothing_for_another_sites_page(
    browser: TestClient, make_key: Callable[[Role], str], headers: dict[str, str]
) -> None:
    sign_in(browser, make_key("admin"))
    body = {"name": "all", "filter": ""}
    assert browser.post("/v1/slices", json=body, headers=headers).status_code == 403
    assert browser.get("/v1/slices").json()["total"] == 0


def test_another_sites_page_can_not_sign_this_browser_in(
    browser: TestClient, engine: Engine
) -> None:
    headers = {"Origin": "https://evil.example"}
    answer = browser.post("/v1/sign-in", json={"key": offer(engine)}, headers=headers)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (403, False)


def test_signing_out_ends_the_session_and_not_only_the_cookie(
    browser: TestClient, engine: Engine
) -> None:
    sign_in(browser, offer(engine))
    cookie = browser.cookies["stovetop-page"]
    assert browser.delete("/v1/sign-in", headers=OWN).status_code == 204
    assert "stovetop-page" not in browser.cookies
    browser.cookies.set("stovetop-page", cookie)  # somebody has kept it
    assert browser.get("/v1/runs").status_code == 401


def test_a_session_ends_by_itself(browser: TestClient, engine: Engine) -> None:
    sign_in(browser, offer(engine))
    expire(engine, "browser")
    assert browser.get("/v1/runs").status_code == 401


def test_a_session_ends_with_the_key_that_it_came_from(
    browser: TestClient, engine: Engine, make_key: Callable[[Role], str]
) -> None:
    key = make_key("viewer")
    sign_in(browser, key)
    assert browser.get("/v1/runs").status_code == 200
    with write(engine) as session:
        revoke(session, key.split("_")[1])
    assert browser.get("/v1/runs").status_code == 401


def test_a_session_is_no_longer_than_its_key(browser: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        key = create_key(session, "viewer", "soon", expires_at=time.time() + 60)
    assert sign_in(browser, key).json()["expires_at"] <= time.time() + 60


def test_a_browser_that_signs_in_again_leaves_no_session_behind(
    browser: TestClient, engine: Engine, make_key: Callable[[Role], str]
) -> None:
    for _ in range(2):
        sign_in(browser, make_key("viewer"))
    with read(engine) as session:
        rows = session.query(ApiKey).filter(ApiKey.kind == "browser").all()
    assert sorted(row.revoked_at is None for row in rows) == [False, True]


def expire(engine: Engine, kind: str) -> None:
    with write(engine) as session:
        session.execute(update(ApiKey).where(ApiKey.kind == kind).values(expires_at=1.0))
