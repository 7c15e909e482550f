"""The page and what every answer carries: nothing foreign runs, nothing secret is kept."""

import base64
import hashlib
import re

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from control_api.borders import MAX_BODY_BYTES, SAFE_HEADERS
from control_api.page import PAGE
from control_api.page_key import new_page_key
from ingest.database import write
from ingest.keys import authenticate


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
        assert {name: answer.headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS
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


def test_the_pages_key_can_read_and_replaces_the_one_before(engine: Engine) -> None:
    with write(engine) as session:
        first, second = new_page_key(session, 1.0), new_page_key(session, 2.0)
        assert authenticate(session, first) is None
        caller = authenticate(session, second)
    assert caller is not None
    assert caller.role == "viewer"
