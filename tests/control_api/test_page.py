"""The page and what every answer carries: nothing foreign runs, nothing secret is kept."""

import asyncio
import base64
import gzip
import hashlib
import json
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from control_api.borders import MAX_BODY_BYTES, SAFE_HEADERS, BodyBound, is_deeper, is_text
from control_api.page import PAGE


def test_only_the_pages_own_script_and_style_may_run(anonymous: TestClient) -> None:
    answer = anonymous.get("/")
    policy = dict(
        directive.split(" ", 1)
        for directive in answer.headers["Content-Security-Policy"].split("; ")
    )
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"


def test_the_page_needs_nothing_from_elsewhere_and_keeps_no_secret() -> None:
    assert re.findall(r"(?:src|href)=|@import|https?://(?!www\.w3\.org/2000/svg)", PAGE) == []
    assert "localStorage" not in PAGE
    assert "innerHTML" not in PAGE
    assert "style=" not in PAGE  # the policy would drop it


def test_every_answer_carries_the_safe_headers(anonymous: TestClient) -> None:
    for path in ("/", "/livez", "/v1/runs", "/nowhere"):
        answer = anonymous.get(path)
        own = SAFE_HEADERS.keys() - ({"Content-Security-Policy"} if path == "/" else set())
        assert {name: answer.headers[name] for name in own} == {
            name: SAFE_HEADERS[name] for name in own
        }
    assert anonymous.get("/v1/runs").headers["Cache-Control"] == "no-store"


def test_a_large_body_is_refused_before_its_key_is_looked_at(anonymous: TestClient) -> None:
    answer = anonymous.post("/v1/slices", content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_large_body_that_is_not_announced_is_refused_while_it_comes(
    anonymous: TestClient,
) -> None:
    answer = anonymous.post("/v1/slices", content=iter([b" " * MAX_BODY_BYTES, b" " * 9]))
    assert answer.status_code == 413


def test_a_page_that_is_framed_or_an_answer_that_is_opened_runs_nothing(
    anonymous: TestClient,
) -> None:
    for path in ("/livez", "/v1/runs", "/nowhere"):
        policy = anonymous.get(path).headers["Content-Security-Policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_no_page_of_somebody_elses_script_is_served(anonymous: TestClient) -> None:
    assert [anonymous.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]


@pytest.mark.parametrize(
    "body",
    [b"[" * 100, b'{"a":' * 100, b'["\\"[",' * 100, b"[" * MAX_BODY_BYTES],
)
def test_a_deep_body_is_refused_before_it_is_parsed(anonymous: TestClient, body: bytes) -> None:
    answer = anonymous.post("/v1/slices", content=body)
    assert (answer.status_code, "nested" in answer.json()["detail"]) == (400, True)


VALUES = st.recursive(
    st.text(max_size=8) | st.none(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=4), inside),
    max_leaves=8,
)


@given(VALUES)
def test_depth_is_that_of_the_value_whatever_its_strings_say(value: object) -> None:
    def depth(of: object) -> int:
        inside = [*of.values()] if isinstance(of, dict) else of if isinstance(of, list) else None
        return 0 if inside is None else 1 + max(map(depth, inside), default=0)

    text = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    assert is_deeper(text, depth(value) - 1) == (depth(value) > 0)
    assert not is_deeper(text, depth(value))


@given(st.text(st.characters(exclude_categories=()), max_size=6))
def test_a_text_is_one_if_it_can_be_kept(text: str) -> None:
    is_kept = "\0" not in text and not any(0xD800 <= ord(each) < 0xE000 for each in text)
    assert is_text(json.dumps(text).encode()) == is_kept
    assert is_text(json.dumps(json.dumps(text)).encode())  # an escaped escape is text


@pytest.mark.parametrize("half", ["\\ud800", "\\udc00", "\\u0000", "\\udc00\\ud800"])
def test_what_no_database_keeps_is_refused_wherever_it_stands(
    operator: TestClient, half: str
) -> None:
    for path, body in (
        ("/v1/mixes", '{"name": "a", "shares": {"%s": 1}}'),
        ("/v1/mixes/preview", '{"shares": {"%s": 1}}'),
        ("/v1/slices", '{"name": "a", "filter": "", "%s": 1}'),
    ):
        answer = operator.post(path, content=(body % half).encode())
        assert (answer.status_code, "half" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("path", ["/v1/runs/%00", "/v1/audit?actor=%00", "/v1/slices?%00=1"])
def test_a_nul_in_the_address_is_refused(operator: TestClient, path: str) -> None:
    assert operator.get(path).status_code == 400


def test_a_bomb_on_a_json_route_is_not_inflated(operator: TestClient) -> None:
    bomb = gzip.compress(b" " * (8 << 20))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert operator.post("/v1/slices", content=bomb, headers=headers).status_code in (400, 422)


def test_a_body_that_never_ends_is_given_up(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_api.borders.BODY_WAIT_S", 0.05)
    sent: list[Message] = []

    async def never() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/slices", "headers": []}
    asyncio.run(BodyBound(app)(scope, never, send))
    assert sent[0]["status"] == 408
