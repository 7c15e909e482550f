"""An endpoint on its bad days: a scripted one, on loopback."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from control_api.agent.chat import MOST_TRIES, Chat, ChatFailed, Endpoint, Reply
from control_api.agent.transcript import Transcript
from tests.scripted_server import Step, answer, drop, scripted

KEY = "sk-secret"


def said(content: str) -> Step:
    completion = {"choices": [{"message": {"role": "assistant", "content": content}}]}
    return answer(200, json.dumps(completion | {"usage": {"total_tokens": 7}}).encode())


def ask(url: str, path: Path | None = None) -> tuple[Reply, int]:
    with Transcript(path) as transcript:
        endpoint = Endpoint(f"{url}/v1", "tiny", KEY)
        with Chat(endpoint, transcript, threading.Event()) as chat:
            return chat.reply([{"role": "user", "content": "hello"}], [])


def test_a_reply_comes_with_what_it_cost() -> None:
    with scripted(said("hi")) as server:
        assert ask(server.url) == (Reply(content="hi"), 7)
    [request] = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(b"\n".join(request.lines))["model"] == "tiny"


@pytest.mark.parametrize(
    "bad_day",
    [
        answer(429, b"slow down", Retry_After="0"),
        answer(503, b"", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        answer(200, b"<html>"),
        answer(200, b'{"choices": []}'),
        drop,
    ],
    ids=["429", "503 with a date", "no JSON", "no choice", "broken off"],
)
def test_a_bad_day_is_waited_out(bad_day: Step) -> None:
    with scripted(bad_day, said("hi")) as server:
        assert ask(server.url)[0].content == "hi"
    assert len(server.requests) == 2


def test_patience_ends_and_says_what_was_said() -> None:
    with (
        scripted(answer(429, b"slow down", Retry_After="0")) as server,
        pytest.raises(ChatFailed, match="429 slow down"),
    ):
        ask(server.url)
    assert len(server.requests) == MOST_TRIES


@pytest.mark.parametrize("status", [400, 401, 404, 307])
def test_what_will_not_be_better_later_fails_at_once(status: int) -> None:
    with (
        scripted(answer(status, b"no such model", Location="/elsewhere")) as server,
        pytest.raises(ChatFailed, match=f"refuses: {status} no such model"),
    ):
        ask(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["nowhere", "ftp://localhost", "http://[::1"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ChatFailed, match="is no address"):
        ask(url)


def test_the_transcript_has_every_exchange_and_no_key(tmp_path: Path) -> None:
    path = tmp_path / "transcript"
    with scripted(answer(500, b"oops", Retry_After="0"), said("hi")) as server:
        ask(server.url, path)
    assert KEY not in path.read_text()
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["what"], line["status"]) for line in lines] == [("chat", 500), ("chat", 200)]
    assert lines[0]["request"]["messages"] == [{"role": "user", "content": "hello"}]
