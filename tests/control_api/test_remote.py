"""The small client: what the server says arrives, and a failure says what to do."""

import socket
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, RedirectResponse
from sqlalchemy import Engine

from control_api.remote import Remote, RemoteError
from ingest.database import write
from ingest.keys import Role
from ingest.slices import save_slice
from tests.control_api.rows import make_run
from tests.serving import serving


@pytest.fixture
def operator_key(make_key: Callable[[Role], str]) -> str:
    """A key of an operator."""
    return make_key("operator")


def test_it_reads_and_asks(url: str, operator_key: str, engine: Engine) -> None:
    with write(engine) as session:
        make_run(session)
    remote = Remote(url + "/", operator_key)
    command = remote.command("online", "pause", {}, reason="lunch")
    assert command["reason"] == "lunch"
    assert remote.get("/v1/runs/online/commands", limit=1, cursor=None)["total"] == 1
    assert remote.settled(command["command_id"], timeout_s=0.0)["state"] == "pending"


def test_pages_go_on_to_the_end(url: str, operator_key: str, engine: Engine) -> None:
    names = [f"slice-{number}" for number in range(5)]
    with write(engine) as session:
        for name in names:
            save_slice(session, name, "", actor="test", now=0.0)
    pages = Remote(url, operator_key).pages("/v1/slices", limit=2)
    assert [item["name"] for item in pages] == names


def test_a_refusal_carries_the_servers_words_and_status(url: str, operator_key: str) -> None:
    with pytest.raises(RemoteError, match="there is no run 'no body'") as refused:
        Remote(url, operator_key).command("no body", "pause", {})
    assert refused.value.status == 404


def test_a_server_that_is_not_there_is_named_with_the_fix() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(RemoteError, match="stovetop up") as refused:
        Remote(url, "key").get("/v1/runs")
    assert refused.value.status is None


@pytest.mark.parametrize("url", ["", "localhost:7420", "ftp://host", "http://", "http://h:x"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(RemoteError, match="url"):
        Remote(url, "key")


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "schl\u00fcssel"])
def test_what_no_header_can_carry_is_no_key(key: str) -> None:
    with pytest.raises(RemoteError, match="key"):
        Remote("http://127.0.0.1", key)


def test_the_key_follows_no_redirect_and_a_strange_answer_is_an_error() -> None:
    app = FastAPI()
    app.get("/away")(lambda: RedirectResponse("http://127.0.0.1:1/"))
    app.get("/text")(lambda: PlainTextResponse("hello"))
    with serving(app) as url:
        for path in ("/away", "/text"):
            with pytest.raises(RemoteError, match="Stovetop"):
                Remote(url, "key").get(path)
