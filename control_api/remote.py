"""A small client of the HTTP API for programs on our side: the command line and the demo.

In: an address and a key. Out: an answer's JSON object, or a `RemoteError` that says what is wrong.
Standard library only, a connection per request, so it is safe in any thread and starts in no time.
It follows no redirect, which could carry the key to somebody else.
"""

import http.client
import json
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

TIMEOUT_S = 30.0
POLL_S = 0.05
SETTLED = ("applied", "rejected", "failed", "expired", "cancelled")
EVALUATED = ("done", "failed")
PAGE_LIMIT = 1000

Answer = dict[str, Any]


class RemoteError(Exception):
    """The server refuses or does not answer; `status` is None where no answer came."""

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class Remote:
    """One server's API, with one key."""

    def __init__(self, url: str, key: str, timeout_s: float = TIMEOUT_S) -> None:
        """Raises RemoteError for an address that is none, or a key that no header can carry."""
        self.url = url.rstrip("/")
        self._parts = urlsplit(self.url)
        self._timeout_s = timeout_s
        if not _is_address(self._parts):
            raise RemoteError(f"url: {url!r} is no http:// or https:// address")
        if not (key.isascii() and key.isprintable()):
            raise RemoteError("key: has characters that no API key has")
        self._headers = {"Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str, **query: object) -> Answer:
        """GET a path; a query value of None is left out. Raises RemoteError."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, None)

    def post(self, path: str, body: object, **headers: str) -> Answer:
        """POST a JSON body. Raises RemoteError."""
        return self._ask("POST", path, json.dumps(body).encode(), headers)

    def patch(self, path: str, body: dict[str, Any]) -> Answer:
        """Change something. Raises RemoteError."""
        return self._ask("PATCH", path, json.dumps(body).encode())

    def delete(self, path: str) -> Answer:
        """DELETE a path. Raises RemoteError."""
        return self._ask("DELETE", path, None)

    def pages(self, path: str, **query: object) -> Iterator[Answer]:
        """All items of a list, page by page. Raises RemoteError."""
        cursor: str | None = None
        while True:
            page = self.get(path, **{"limit": PAGE_LIMIT, "cursor": cursor, **query})
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def command(
        self, run: str, kind: str, args: dict[str, Any], reason: str = "", key: str | None = None
    ) -> Answer:
        """Ask something of a run; the answer is the command: received, pending or proposed.

        Asked again with the same Idempotency-Key `key`, it is the same command.
        """
        asked = {"kind": kind, "args": args, "reason": reason}
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.post(f"/v1/runs/{quote(run, safe='')}/commands", asked, **headers)

    def undo(self, command_id: str, reason: str = "") -> Answer:
        """Undo a command; the answer is the command that does it, received or pending."""
        return self.post(f"/v1/commands/{quote(command_id, safe='')}/undo", {"reason": reason})

    def approve(self, command_id: str, reason: str = "") -> Answer:
        """Let the run take a proposal; the answer is the command, received or pending."""
        return self.post(f"/v1/commands/{quote(command_id, safe='')}/approve", {"reason": reason})

    def refuse(self, command_id: str, reason: str) -> Answer:
        """Let nobody take a proposal; the answer is the command, rejected."""
        return self.post(f"/v1/commands/{quote(command_id, safe='')}/refuse", {"reason": reason})

    def settled(self, command_id: str, timeout_s: float) -> Answer:
        """The command once it is settled, or as it is after `timeout_s`."""
        return self._once(f"/v1/commands/{command_id}", SETTLED, timeout_s)

    def evaluated(self, evaluation_id: str, timeout_s: float) -> Answer:
        """The evaluation once it is done or failed, or as it is after `timeout_s`."""
        return self._once(f"/v1/evaluations/{evaluation_id}", EVALUATED, timeout_s)

    def _once(self, path: str, states: Collection[str], timeout_s: float) -> Answer:
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.get(path)
            if answer["state"] in states or time.monotonic() >= deadline:
                return answer
            time.sleep(POLL_S)

    def _ask(
        self, method: str, path: str, body: bytes | None, given: Mapping[str, str] | None = None
    ) -> Answer:
        headers = {**self._headers, **(given or {})}
        if body:
            headers["Content-Type"] = "application/json"
        connection = self._connect()
        try:
            connection.request(method, self._parts.path + path, body, headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RemoteError(
                f"{self.url} does not answer ({error}); is `stovetop up` running?"
            ) from error
        finally:
            connection.close()
        return _parsed(self.url, status, content)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname, self._parts.port
        assert host is not None
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)


def _is_address(parts: SplitResult) -> bool:
    try:
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def _parsed(url: str, status: int, content: bytes) -> Answer:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RemoteError(f"{url} answers {status}, but no JSON object: is it Stovetop's?", status)
    if not 200 <= status < 300:
        raise RemoteError(str(answer.get("detail", f"{url} answers {status}")), status)
    return answer
