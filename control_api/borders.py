"""What holds for every request and answer, whatever the route: a bound on bodies, safe headers.

Pure ASGI, so that answers pass through untouched. Decision: a body of a route that parses JSON is
read before its key is known, so its bounds are small: 256 KiB, 64 levels, 30 s until it is there.
The event routes, which check the key first, have their own, larger ones.
"""

import asyncio
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.body import BODY_WAIT_S
from ingest.problems import Problem

MAX_BODY_BYTES = 1 << 18
MAX_DEPTH = 64
SELF_BOUND = ("/v1/events", "/v1/logs/")
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_NO_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+', re.DOTALL)


# Of the escapes in a JSON text, in order: a whole pair, then what is no character, then the rest.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


class BodyBound:
    """Refuses, unparsed, a body that is too large (413), too slow (408), too deep or no text (400).

    No database keeps a NUL or half a character, in a body, a path or a query. What passes reaches
    the app in one piece.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body judged."""
        if scope["type"] != "http" or scope["path"].startswith(SELF_BOUND):
            await self._app(scope, receive, send)
            return
        try:
            _check_head(scope)
            async with asyncio.timeout(BODY_WAIT_S):
                first = await _whole(receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        except TimeoutError:
            detail = f"body: must be here within {BODY_WAIT_S:g} s"
            await Problem(408, "Too slow", detail).response()(scope, receive, send)
            return
        waiting = [first]

        async def replayed() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replayed, send)


def _check_head(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise Problem(400, "Unreadable address", "path or query: has a NUL")
    announced = Headers(scope=scope).get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise _too_large()


async def _whole(receive: Receive) -> Message:
    """The whole body as one message, or the news that the other side is gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            break
    if is_deeper(bytes(body), MAX_DEPTH):
        raise Problem(400, "Unreadable body", f"body: nested deeper than {MAX_DEPTH} levels")
    if not is_text(bytes(body)):
        raise Problem(400, "Unreadable body", "body: has a NUL or half of a character")
    return {"type": "http.request", "body": bytes(body), "more_body": False}


def is_text(json: bytes) -> bool:
    """Whether the escapes in a JSON text are whole characters, and none of them NUL."""
    return b"\\u" not in json or not any(escape[1] for escape in _ESCAPE.finditer(json))


def is_deeper(json: bytes, max_depth: int) -> bool:
    """Whether a text, if it is JSON, nests arrays and objects deeper than so many levels."""
    depth = 0
    for bracket in _NO_BRACKET.sub(b"", json):
        if bracket in b"[{":
            depth += 1
            if depth > max_depth:
                return True
        elif bracket in b"]}":
            depth -= 1
    return False


class SafeHeaders:
    """Adds SAFE_HEADERS to every answer that does not set its own; `/v1` is never stored."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its answer's headers completed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, completed)


def _too_large() -> Problem:
    return Problem(413, "Too large", f"body: at most {MAX_BODY_BYTES} bytes")
