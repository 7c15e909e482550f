"""Sources over HTTP and at the terminal."""

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from ingest.database import write
from ingest.keys import create_key
from tests.control_api.conftest import AsRole
from tests.control_api.shell import Shell, said


def two_sources(engine: Engine) -> None:
    with write(engine) as session:
        for name in ("first", "second"):
            create_key(session, "ingest", name)


def test_an_admin_releases_and_withdraws(engine: Engine, as_role: AsRole) -> None:
    two_sources(engine)
    admin = as_role("admin")
    listed = admin.get("/v1/sources").json()["items"]
    assert [(item["name"], item["released_revision"]) for item in listed] == [
        ("first", 0),
        ("second", None),
    ]
    released = admin.patch("/v1/sources/second", json={"is_released": True}).json()
    assert released["released_revision"] == 1
    withdrawn = admin.patch("/v1/sources/second", json={"is_released": False}).json()
    assert withdrawn["released_at"] is None


def test_an_operator_may_not(engine: Engine, operator: TestClient) -> None:
    two_sources(engine)
    assert operator.get("/v1/sources").status_code == 200
    answer = operator.patch("/v1/sources/second", json={"is_released": True})
    assert answer.status_code == 403


def test_an_unknown_source_is_not_found(as_role: AsRole) -> None:
    answer = as_role("admin").patch("/v1/sources/nobody", json={"is_released": True})
    assert answer.status_code == 404


def test_the_terminal_says_who_waits_and_lets_them_in(shell: Shell) -> None:
    assert said(shell("keys", "create", "--role", "ingest", "--source", "a", "--json"))[
        "is_released"
    ]
    made = shell("keys", "create", "--role", "ingest", "--source", "b")
    assert "stovetop sources release b" in made.stderr
    trusted = ("--role", "ingest", "--source", "c", "--trusted", "--json")
    assert said(shell("keys", "create", *trusted))["is_released"]
    assert said(shell("sources", "release", "b", "--json"))["released_revision"] is not None
    assert "quarantined" in shell("sources", "withdraw", "c").stdout
    states = {
        item["name"]: item["released_at"] is not None
        for item in said(shell("sources", "list", "--json"))["items"]
    }
    assert states == {"a": True, "b": True, "c": False}
    assert shell("keys", "create", "--role", "viewer", "--trusted").exit_code == 1


def test_what_a_source_sends_is_redacted_from_the_terminal(shell: Shell, engine: Engine) -> None:
    two_sources(engine)
    assert said(shell("sources", "redact", "first", "mask", "--json"))["redaction"] == "mask"
    assert "mask" in shell("sources", "list").stdout
    assert shell("sources", "redact", "first", "blur").exit_code == 1
    [entry] = said(shell("audit", "--action", "source.redact", "--json"))["items"]
    assert entry["detail"] == {"redaction": "mask"}


def test_a_change_of_nothing_is_refused(engine: Engine, as_role: AsRole) -> None:
    two_sources(engine)
    assert as_role("admin").patch("/v1/sources/first", json={}).status_code == 422
