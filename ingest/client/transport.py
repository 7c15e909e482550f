"""One kept-alive connection to a Stovetop server, and how long a failure is waited out.

In: bodies to post. Out: answers, and of `/v1/events` the verdict on every line. Guaranteed: what
time cures (408, 429, 5xx, network errors, some proxy's success) is asked again for as long as the
caller's `pause` says so, after Retry-After where there is one; what it does not is `Refused`.
"""

import gzip
import json
import random
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

GZIP_FROM_BYTES = 4_096
KEEP_ALIVE_S = 2.0  # servers close idle connections, uvicorn after 5 s
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 300.0

UNREACHABLE = (OSError, HTTPException)
T = TypeVar("T")
Pause = Callable[[str, float, bool], bool]  # (reason, seconds, server_asked) -> try again


class Verdicts(NamedTuple):
    """What the server decided on the lines of one request; it will never take a rejected one."""

    accepted: int
    duplicate: int
    rejected: dict[int, tuple[str, str]]  # the line's index: code, detail


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    retry_after: str | None
    body: bytes

    def verdicts(self, num_lines: int) -> Verdicts | None:
        """The server's verdicts; None where they do not account for every line."""
        if self.status not in (200, 202, 422):
            return None
        try:
            fields = json.loads(self.body)
            reasons = {int(r["index"]): (r["code"], r["detail"]) for r in fields["rejected"]}
            verdicts = Verdicts(int(fields["accepted"]), int(fields["duplicate"]), reasons)
        except (ValueError, TypeError, KeyError):
            return None
        num_decided = verdicts.accepted + verdicts.duplicate + len(reasons)
        is_complete = num_decided == num_lines and reasons.keys() <= {*range(num_lines)}
        return verdicts if is_complete else None


class Refused(Exception):
    """The server will not take this request, however often it is sent."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}: {answer.body[:500].decode(errors='replace')}")
        self.answer = answer


class Transport:
    """One kept-alive connection to a Stovetop server, for one thread."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        """Raise ValueError naming `url` or `key` where it cannot be one; nothing is connected."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: {url!r} is no server's address; write http(s)://HOST:PORT")
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError("key: not an API key; paste the one that `stovetop keys create` shows")
        connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = connect(parts.hostname, parts.port, timeout=timeout_s)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
        self._used_at = 0.0

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One attempt; raises UNREACHABLE where no answer came."""
        headers = self._headers
        if body and len(body) >= GZIP_FROM_BYTES:
            body, headers = gzip.compress(body, 6), headers | {"Content-Encoding": "gzip"}
        if time.monotonic() - self._used_at > KEEP_ALIVE_S:
            self._connection.close()
        try:
            self._connection.request(method, self._prefix + path, body, headers)
            with self._connection.getresponse() as response:
                answer = Answer(response.status, response.headers["Retry-After"], response.read())
        except UNREACHABLE:
            self._connection.close()
            raise
        self._used_at = time.monotonic()
        return answer

    def ask(
        self, path: str, body: bytes | None, read: Callable[[Answer], T | None], pause: Pause
    ) -> T | None:
        """Post a body (or get) until `read` understands the answer; None where `pause` gives up.

        Raises Refused for an answer that waiting cannot cure.
        """
        attempt, keeps_trying = 0, True
        while keeps_trying:
            attempt, retry_after = attempt + 1, None
            try:
                answer = self.request("POST" if body else "GET", path, body)
                if (content := read(answer)) is not None:
                    return content
                # Time cures these; a success that `read` does not understand is some proxy's.
                if not (answer.status in (408, 429) or answer.status // 100 in (2, 5)):
                    raise Refused(answer)
                reason, retry_after = f"HTTP {answer.status}", answer.retry_after
            except UNREACHABLE as error:
                reason = f"{type(error).__name__}: {error}"
            keeps_trying = pause(reason, wait_s(attempt, retry_after), retry_after is not None)
        return None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def wait_s(attempt: int, retry_after: str | None) -> float:
    """Seconds after failure 1, 2 ...: Retry-After, or 0.5, 1 ... 30 less up to half by chance."""
    if retry_after and retry_after.isdecimal():
        return min(float(retry_after), MAX_RETRY_AFTER_S)
    return min(MAX_BACKOFF_S, 0.25 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)
