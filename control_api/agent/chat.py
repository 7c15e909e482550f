"""A language model behind an OpenAI-compatible endpoint: messages and tools in, one reply out.

In: `POST {url}/chat/completions`. Out: the reply's text and tool calls, and the tokens that it
cost; or ChatFailed, which says what the endpoint said. Guaranteed: after 429, 5xx, an answer that
can't be read and a broken connection the same request is sent again, MOST_TRIES times in all,
after `Retry-After` (at most LONGEST_WAIT_S) or 1, 2, 4 ... seconds; anything else fails at once.
Redirects are not followed, which could carry the key to somebody else. Every exchange goes to the
transcript.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx
from pydantic import BaseModel, Field, ValidationError

from control_api.agent.transcript import Transcript

MOST_TRIES = 5
LONGEST_WAIT_S = 60.0
TIMEOUT = httpx.Timeout(120.0, connect=10.0)
MOST_REPLY_TOKENS = 2_048
CHARACTERS_A_TOKEN = 4  # where an endpoint does not count

Message = dict[str, Any]


class ChatFailed(RuntimeError):
    """The endpoint gives no reply: what it said, and what to do."""


class Function(BaseModel):
    """Which tool is called, and with which JSON text."""

    name: str
    arguments: str = ""


class ToolCall(BaseModel):
    """A tool that the model calls."""

    id: str
    function: Function


class Reply(BaseModel):
    """What the model says."""

    content: str | None = None
    tool_calls: list[ToolCall] | None = None

    def message(self) -> Message:
        """As it goes back to the model with the next request."""
        message: Message = {"role": "assistant", "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [
                call.model_dump() | {"type": "function"} for call in self.tool_calls
            ]
        return message


class _Choice(BaseModel):
    message: Reply


class _Usage(BaseModel):
    total_tokens: int


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where the model is: the address up to `/chat/completions`, its name there, the key."""

    url: str
    model: str
    key: str = ""


class Chat:
    """An endpoint with its patience; `stop` ends a wait between two tries."""

    def __init__(self, endpoint: Endpoint, transcript: Transcript, stop: threading.Event) -> None:
        self._endpoint = endpoint
        self._url = f"{endpoint.url.rstrip('/')}/chat/completions"
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._client = httpx.Client(timeout=TIMEOUT, headers=headers)
        self._transcript = transcript
        self._stop = stop

    def reply(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]
    ) -> tuple[Reply, int]:
        """The model's reply, and the tokens that it cost. Raises ChatFailed."""
        body = {
            "model": self._endpoint.model,
            "messages": list(messages),
            "tools": list(tools),
            "max_tokens": MOST_REPLY_TOKENS,
        }
        problem = ""
        for attempt in range(MOST_TRIES):
            completion, problem, wait_s = self._try(body, attempt)
            if completion is not None:
                return completion.choices[0].message, _tokens(completion, body)
            if attempt + 1 < MOST_TRIES and self._stop.wait(wait_s):
                raise ChatFailed(f"told to stop while {self._url} was not answering: {problem}")
        raise ChatFailed(f"{self._url} gave no reply in {MOST_TRIES} tries: {problem}")

    def _try(self, body: dict[str, Any], attempt: int) -> tuple[_Completion | None, str, float]:
        """The completion, or what is wrong and how long to wait. Raises ChatFailed."""
        patience_s = min(LONGEST_WAIT_S, 2.0**attempt)
        try:
            answer = self._client.post(self._url, json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ChatFailed(f"{self._url} is no address: {error}") from error
        except httpx.RequestError as error:
            self._transcript.write("chat", request=body, error=str(error))
            return None, f"{type(error).__name__}: {error}", patience_s
        self._transcript.write("chat", request=body, status=answer.status_code, answer=answer.text)
        said = f"{answer.status_code} {answer.text[:500]}"
        if answer.status_code == 429 or answer.status_code >= 500:
            return None, said, _retry_after_s(answer, patience_s)
        if answer.status_code != 200:
            raise ChatFailed(f"{self._url} refuses: {said}")
        try:
            return _Completion.model_validate_json(answer.content), "", 0.0
        except ValidationError:
            return None, f"no chat completion: {answer.text[:500]}", patience_s

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _retry_after_s(answer: httpx.Response, otherwise_s: float) -> float:
    """Seconds, from a header that gives them or a date."""
    text = answer.headers.get("Retry-After", "")
    try:
        wait_s = float(text)
    except ValueError:
        try:
            wait_s = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return otherwise_s
    return min(LONGEST_WAIT_S, max(0.0, wait_s)) if math.isfinite(wait_s) else otherwise_s


def _tokens(completion: _Completion, body: dict[str, Any]) -> int:
    if completion.usage is not None:
        return completion.usage.total_tokens
    return len(str(body) + completion.model_dump_json()) // CHARACTERS_A_TOKEN
