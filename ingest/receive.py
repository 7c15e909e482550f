"""The door: events and log lines come in over HTTP and are durable before the answer says so.

In: `POST /v1/events` (JSON array or NDJSON) and `POST /v1/logs/neuralos` (the demo's JSONL).
Out: a log record or a few for each partition, and a verdict for every event. Guaranteed: 202 once
the log has them for good; a bad event never takes its neighbours with it; a resent one is counted
as `duplicate` and stored once. 503 with Retry-After when the log can't take it: send it again.
Decision: the endpoint calls a duplicate only what it is sure of (twice here, or in the table with
the same content). What differs under the same id passes, so that the consumer, whose unique
constraint decides, keeps it as a dead letter `conflict` that an operator sees.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request
from sqlalchemy import Engine, select

from ingest import body as bodies
from ingest.access import rates_of, require
from ingest.database import read
from ingest.envelope import Envelope, Unreadable
from ingest.events import (
    BatchAnswer,
    Event,
    Refusal,
    Verdict,
    event_digest,
    parse_event,
    partition_of,
    session_key,
)
from ingest.ids import content_id
from ingest.keys import Caller
from ingest.log import EventLog, LogUnavailable, NewRecord
from ingest.neuralos_log import read_line
from ingest.openapi import event_bodies, line_bodies, problems
from ingest.problems import FieldError, Problem, unavailable
from ingest.settings import Settings
from ingest.tables import EventRow

MAX_NAMED_EVENTS = 20
REFUSALS = (400, 401, 403, 408, 413, 415, 422, 429, 503)

router = APIRouter(tags=["events"])

Ingester = Annotated[Caller, Depends(require("ingest"))]
Body = Annotated[bytes, Depends(bodies.raw_body)]


@dataclass(frozen=True)
class Entry:
    """One event or line of a request; `original` is set where a refused one must be kept."""

    read: Event | Refusal
    original: bytes | None = None


@router.post(
    "/v1/events",
    status_code=202,
    responses=problems(*REFUSALS),
    openapi_extra=event_bodies(),
)
def receive_events(request: Request, caller: Ingester, body: Body) -> BatchAnswer:
    """Take a batch of events; each gets its own verdict."""
    settings: Settings = request.app.state.settings
    entries = [Entry(event) for event in _wire_events(request, body, settings)]
    return _take(request, caller, entries)


@router.post(
    "/v1/logs/neuralos",
    status_code=202,
    responses=problems(*REFUSALS),
    openapi_extra=line_bodies(),
)
def receive_neuralos_log(request: Request, caller: Ingester, body: Body) -> BatchAnswer:
    """Take lines of the deployed NeuralOS demo's interaction log as they are.

    A line that can't be an event is rejected and kept, since production has no better one to send.
    """
    settings: Settings = request.app.state.settings
    if bodies.media_type(request) not in (bodies.JSON, *bodies.LINES, *bodies.PLAIN):
        raise bodies.unsupported_type(request)
    lines = list(bodies.lines(bodies.inflated(request, body, settings.max_body_bytes)))
    _check_count(len(lines), settings)
    entries = [
        Entry(_bounded(line, settings) or read_line(caller.source, line), line) for line in lines
    ]
    return _take(request, caller, entries)


def _wire_events(request: Request, body: bytes, settings: Settings) -> list[Event | Refusal]:
    media_type = bodies.media_type(request)
    body = bodies.inflated(request, body, settings.max_body_bytes)
    if media_type in bodies.PLAIN:
        media_type = bodies.JSON if body.lstrip()[:1] == b"[" else bodies.LINES[0]
    if media_type in bodies.LINES:
        lines = list(bodies.lines(body))
        _check_count(len(lines), settings)
        return [_bounded(line, settings) or _read_wire_line(line) for line in lines]
    if media_type != bodies.JSON:
        raise bodies.unsupported_type(request)
    values = bodies.json_values(body)
    _check_count(len(values), settings)
    is_small = len(body) <= settings.max_event_bytes
    return [
        (None if is_small else _bounded(_dumped(value), settings)) or parse_event(value)
        for value in values
    ]


def _read_wire_line(line: bytes) -> Event | Refusal:
    try:
        return parse_event(bodies.json_value(line))
    except ValueError as error:
        return Refusal("invalid", f"event: not JSON: {error}")


def _dumped(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half a character, or an integer past 64 bits: parse_event names it
        return b""


def _bounded(event: bytes, settings: Settings) -> Refusal | None:
    if len(event) <= settings.max_event_bytes:
        return None
    return Refusal("too_large", f"event: at most {settings.max_event_bytes} bytes")


def _check_count(num_events: int, settings: Settings) -> None:
    if num_events > settings.max_batch_events:
        raise Problem(
            413,
            "Too many events",
            f"body: at most {settings.max_batch_events} events; send smaller batches",
            max_events=settings.max_batch_events,
        )


def _take(request: Request, caller: Caller, entries: Sequence[Entry]) -> BatchAnswer:
    """Make what is new durable and say what became of each entry."""
    rates_of(request).take_events(caller.key_id, len(entries))
    events = [entry.read for entry in entries if not isinstance(entry.read, Refusal)]
    rejected = [
        Verdict(index=index, **vars(entry.read))
        for index, entry in enumerate(entries)
        if isinstance(entry.read, Refusal)
    ]
    unreadable = [
        Unreadable(code=entry.read.code, detail=entry.read.detail, original=entry.original)
        for entry in entries
        if isinstance(entry.read, Refusal) and entry.original is not None
    ]
    fresh = _without_duplicates(request.app.state.engine, caller.source, events)
    _append(request.app.state.event_log, caller.source, fresh, unreadable)
    answer = BatchAnswer(accepted=len(fresh), duplicate=len(events) - len(fresh), rejected=rejected)
    if rejected and not events:
        raise _all_bad(answer)
    return answer


def _without_duplicates(engine: Engine, source: str, events: Sequence[Event]) -> list[Event]:
    with read(engine) as session:
        known = session.execute(
            select(EventRow.event_id, EventRow.digest).where(
                EventRow.source == source,
                EventRow.event_id.in_({event.event_id for event in events}),
            )
        )
        digests = {event_id: {digest} for event_id, digest in known}
    first: dict[str, Event] = {}
    fresh: list[Event] = []
    for event in events:
        event_id = event.event_id
        if event_id in first or event_id in digests:  # only then hashed: most ids come once
            seen = digests.setdefault(event_id, set())
            if event_id in first:
                seen.add(event_digest(first[event_id]))
            digest = event_digest(event)
            if digest in seen:
                continue
            seen.add(digest)
        else:
            first[event_id] = event
        fresh.append(event)
    return fresh


def _append(
    log: EventLog, source: str, events: Iterable[Event], unreadable: Iterable[Unreadable]
) -> None:
    parts: defaultdict[int, tuple[list[Event], list[Unreadable]]] = defaultdict(lambda: ([], []))
    sessions: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        sessions[event.session_id].append(event)
    for session_id, own in sessions.items():
        partition = partition_of(session_key(source, session_id), log.num_partitions)
        parts[partition][0].extend(own)
    for item in unreadable:
        partition = partition_of(content_id(source, item.original), log.num_partitions)
        parts[partition][1].append(item)
    now = time.time()
    records = [
        NewRecord(partition, value)
        for partition, (kept, refused) in parts.items()
        for value in Envelope(
            source=source, received_at=now, events=kept, unreadable=refused
        ).pack_split()
    ]
    if not records:
        return
    try:
        log.append(records)
    except LogUnavailable as error:
        raise unavailable(f"the event log {error}; send the request again") from error


def _all_bad(answer: BatchAnswer) -> Problem:
    errors = [
        FieldError(field=f"[{verdict.index}]", message=verdict.detail)
        for verdict in answer.rejected[:MAX_NAMED_EVENTS]
    ]
    return Problem(
        422,
        "No event could be taken",
        f"all {len(answer.rejected)} were rejected; the first: {answer.rejected[0].detail}",
        errors=errors,
        **answer.model_dump(),
    )
