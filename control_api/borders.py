"""What holds for every request and answer, whatever the route: a bound on bodies, safe headers.

Pure ASGI, so that streams pass through untouched. Decision: a body of a route that parses JSON is
read before its key is known, so its bound (1 MiB) is small; the event routes, which check the key
first, have their own, larger one.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.problems import Problem

MAX_BODY_BYTES = 1 << 20
SELF_BOUND = ("/v1/events", "/v1/logs/")
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BodyBound:
    """Refuses a request body over MAX_BODY_BYTES with 413, announced or found while reading."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted."""
        if scope["type"] != "http" or scope["path"].startswith(SELF_BOUND):
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
            await Problem(413, "Too large", _DETAIL).response()(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, _DETAIL)
            return message

        await self._app(scope, counted, send)


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


_DETAIL = f"body: at most {MAX_BODY_BYTES} bytes"
