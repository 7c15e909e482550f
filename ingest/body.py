"""A request's body: read with a bound, inflated with a bound, split into values or lines.

In: the HTTP request. Out: JSON values, or the bytes of each line. Refused, before anything is
parsed: 413 (too large, compressed or inflated), 408 (too slow), 415 (an encoding or type that we do
not read) and 400 (what is no gzip or no JSON as a whole).
"""

import asyncio
import zlib
from collections.abc import Iterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from ingest.events import json_value
from ingest.problems import Problem
from ingest.settings import Settings

JSON = "application/json"
LINES = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
)
PLAIN = ("text/plain", "application/octet-stream", "")
GZIP_WINDOW_BITS = 31
BODY_WAIT_S = 30.0


async def raw_body(request: Request) -> bytes:
    """The body as it came, no longer than `max_body_bytes`; a FastAPI dependency."""
    settings: Settings = request.app.state.settings
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > settings.max_body_bytes:
        raise _too_large(settings.max_body_bytes)
    chunks = bytearray()
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            async for chunk in request.stream():
                chunks += chunk
                if len(chunks) > settings.max_body_bytes:
                    raise _too_large(settings.max_body_bytes)
    except TimeoutError as error:
        raise Problem(408, "Too slow", f"body: must be here within {BODY_WAIT_S:g} s") from error
    except ClientDisconnect as error:
        raise Problem(400, "Incomplete body", "the connection ended within the body") from error
    return bytes(chunks)


def media_type(request: Request) -> str:
    """The body's type without its parameters; "" where none is given."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def inflated(request: Request, body: bytes, max_bytes: int) -> bytes:
    """The body without its Content-Encoding (gzip or identity), never more than `max_bytes`."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(
            415,
            "Unsupported encoding",
            f"Content-Encoding: {encoding!r} is not read here; send gzip or identity",
            headers={"Accept-Encoding": "gzip, identity"},
        )
    try:
        return _gunzip(body, max_bytes)
    except zlib.error as error:
        raise Problem(400, "Unreadable body", f"body: no whole gzip stream ({error})") from error


def json_values(body: bytes) -> list[object]:
    """The values of a JSON array; a single object counts as an array of one."""
    try:
        value = json_value(body)
    except ValueError as error:
        raise Problem(400, "Unreadable body", f"body: not JSON: {error}") from error
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise Problem(400, "Unreadable body", "body: must be a JSON array of events, or NDJSON")
    return value


def lines(body: bytes) -> Iterator[bytes]:
    """The body's lines without their line breaks; blank ones are left out."""
    return (line.removesuffix(b"\r") for line in body.split(b"\n") if line.strip())


def unsupported_type(request: Request) -> Problem:
    """The 415 for a body of another type than we read."""
    return Problem(
        415,
        "Unsupported type",
        f"Content-Type: {media_type(request)!r} is not read here; send {JSON} or {LINES[0]}",
    )


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    inflated = bytearray()
    while body:
        member = zlib.decompressobj(GZIP_WINDOW_BITS)
        inflated += member.decompress(body, max_bytes + 1 - len(inflated))
        if len(inflated) > max_bytes:
            raise _too_large(max_bytes)
        if not member.eof:
            raise zlib.error("it ends too early")
        body = member.unused_data
    return bytes(inflated)


def _too_large(max_bytes: int) -> Problem:
    return Problem(
        413,
        "Too large",
        f"body: at most {max_bytes} bytes, measured uncompressed; send smaller batches",
        max_bytes=max_bytes,
    )
