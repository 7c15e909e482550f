"""The door: events and log lines come in over HTTP and are durable before the answer says so.

In: `POST /v1/events` (JSON array or NDJSON) and `POST /v1/logs/neuralos` (the demo's JSONL).
Out: a log record or a few for each partition, and a verdict for every event. Guaranteed: 202 once
the log has them for good; a bad event never takes its neighbours with it; a resent one is counted
as `duplicate` and stored once. 503 with Retry-After when the log can't take it: send it again.
Decision: the endpoint calls a duplicate only what it is sure of (twice here, or in the table with
the same content). What differs under the same id passes, so that the consumer, whose unique
constraint decides, keeps it as a dead letter `conflict` that an operator sees. What people typed
is redacted here, and what is forgotten refused (`admission`), so that the log never has it.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Annotated, NamedTuple

import orjson
from fastapi import APIRouter, Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from ingest import body as bodies
from ingest.access import rates_of, require
from ingest.admission import Entry, admission_of
from ingest.database import is_among, read
from ingest.envelope import Origin, Unreadable, pack
from ingest.events import (
    BatchAnswer,
    Event,
    Refusal,
    Verdict,
    event_digest,
    event_line,
    parse_event,
    partition_of,
    read_event,
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
# More threads that check would only keep one another, and everybody else's requests, from the
# interpreter; two, as one may wait for the database. Any number may wait for the log.
_CHECKING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="receive")

Ingester = Annotated[Caller, Depends(require("ingest"))]
Body = Annotated[bytes, Depends(bodies.raw_body)]


class Arrived(NamedTuple):
    """An event, and the line that it is in the log."""

    event: Event
    line: bytes


class Checked(NamedTuple):
    """A request's answer, and the records that must be durable before it is given."""

    answer: BatchAnswer
    records: Sequence[NewRecord]


@router.post(
    "/v1/events",
    status_code=202,
    responses=problems(*REFUSALS),
    openapi_extra=event_bodies(),
)
async def receive_events(request: Request, caller: Ingester, body: Body) -> BatchAnswer:
    """Take a batch of events; each gets its own verdict."""
    return await _in_turn(_check_events, request, caller, body)


@router.post(
    "/v1/logs/neuralos",
    status_code=202,
    responses=problems(*REFUSALS),
    openapi_extra=line_bodies(),
)
async def receive_neuralos_log(request: Request, caller: Ingester, body: Body) -> BatchAnswer:
    """Take lines of the deployed NeuralOS demo's interaction log as they are.

    A line that can't be an event is rejected and kept, since production has no better one to send.
    """
    return await _in_turn(_check_neuralos_log, request, caller, body)


async def _in_turn(
    check: Callable[[Request, Caller, bytes], Checked],
    request: Request,
    caller: Caller,
    body: bytes,
) -> BatchAnswer:
    in_context = partial(copy_context().run, check, request, caller, body)
    checked = await asyncio.get_running_loop().run_in_executor(_CHECKING, in_context)
    if checked.records:
        await run_in_threadpool(_append, request.app.state.event_log, checked.records)
    if checked.answer.rejected and not checked.answer.accepted and not checked.answer.duplicate:
        raise _all_bad(checked.answer)
    return checked.answer


def _check_events(request: Request, caller: Caller, body: bytes) -> Checked:
    settings: Settings = request.app.state.settings
    entries = _wire_events(request, body, settings)
    with read(request.app.state.engine) as session:
        admission = admission_of(session, caller.source, entries)
        return _check(request, caller, session, [admission.event(entry) for entry in entries])


def _check_neuralos_log(request: Request, caller: Caller, body: bytes) -> Checked:
    settings: Settings = request.app.state.settings
    if bodies.media_type(request) not in (bodies.JSON, *bodies.LINES, *bodies.PLAIN):
        raise bodies.unsupported_type(request)
    lines = list(bodies.lines(bodies.inflated(request, body, settings.max_body_bytes)))
    _check_count(len(lines), settings)
    found = [_bounded(line, settings) or read_line(caller.source, line) for line in lines]
    entries = [
        Entry(each, line if isinstance(each, Refusal) else event_line(each))
        for each, line in zip(found, lines, strict=True)
    ]
    with read(request.app.state.engine) as session:
        admission = admission_of(session, caller.source, entries)
        letters = [
            admission.letter(each, line) for each, line in entries if isinstance(each, Refusal)
        ]
        admitted = [admission.line(entry) for entry in entries]
        return _check(request, caller, session, admitted, [each for each in letters if each])


def _wire_events(request: Request, body: bytes, settings: Settings) -> list[Entry]:
    media_type = bodies.media_type(request)
    body = bodies.inflated(request, body, settings.max_body_bytes)
    if media_type in bodies.PLAIN:
        media_type = bodies.JSON if body.lstrip()[:1] == b"[" else bodies.LINES[0]
    if media_type in bodies.LINES:
        lines = list(bodies.lines(body))
        _check_count(len(lines), settings)
        return [Entry(_bounded(line, settings) or read_event(line), line) for line in lines]
    if media_type != bodies.JSON:
        raise bodies.unsupported_type(request)
    values = bodies.json_values(body)
    _check_count(len(values), settings)
    return [_read_value(value, settings) for value in values]


def _read_value(value: object, settings: Settings) -> Entry:
    try:
        line = orjson.dumps(value)
    except TypeError:  # half a character, or an integer past 64 bits: parse_event names it
        line = b""
    return Entry(_bounded(line, settings) or parse_event(value), line)


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


def _check(
    request: Request,
    caller: Caller,
    session: Session,
    entries: Sequence[Entry],
    refused: Sequence[Unreadable] = (),
) -> Checked:
    """A verdict for each; what is new goes on, with those of the refused that must be kept."""
    rates_of(request).take_events(caller.key_id, len(entries))
    events = [Arrived(read, line) for read, line in entries if not isinstance(read, Refusal)]
    rejected = [
        Verdict(index=index, **vars(entry.read))
        for index, entry in enumerate(entries)
        if isinstance(entry.read, Refusal)
    ]
    fresh = _without_duplicates(session, caller.source, events)
    origin = Origin(source=caller.source, received_at=time.time())
    log: EventLog = request.app.state.event_log
    answer = BatchAnswer(accepted=len(fresh), duplicate=len(events) - len(fresh), rejected=rejected)
    return Checked(answer, _records(log.num_partitions, origin, fresh, refused))


def _without_duplicates(
    session: Session, source: str, events: Sequence[Arrived]
) -> Sequence[Arrived]:
    ids = {arrived.event.event_id for arrived in events}
    digests = _known_digests(session, source, ids)
    if not digests and len(ids) == len(events):
        return events
    first: dict[str, Event] = {}
    fresh: list[Arrived] = []
    for arrived in events:
        event = arrived.event
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
        fresh.append(arrived)
    return fresh


def _known_digests(session: Session, source: str, ids: Collection[str]) -> dict[str, set[str]]:
    known = session.execute(
        select(EventRow.event_id, EventRow.digest).where(
            EventRow.source == source, is_among(session, EventRow.event_id, ids)
        )
    )
    return {event_id: {digest} for event_id, digest in known}


def _records(
    num_partitions: int,
    origin: Origin,
    events: Iterable[Arrived],
    refused: Iterable[Unreadable],
) -> list[NewRecord]:
    sessions: defaultdict[str, list[bytes]] = defaultdict(list)
    for event, line in events:
        sessions[event.session_id].append(line)
    parts: defaultdict[int, tuple[list[bytes], list[Unreadable]]] = defaultdict(lambda: ([], []))
    for session_id, lines in sessions.items():
        partition = partition_of(session_key(origin.source, session_id), num_partitions)
        parts[partition][0].extend(lines)
    for item in refused:
        partition = partition_of(content_id(origin.source, item.original), num_partitions)
        parts[partition][1].append(item)
    return [
        NewRecord(partition, record)
        for partition, (lines, kept) in parts.items()
        for record in pack(origin, lines, kept)
    ]


def _append(log: EventLog, records: Sequence[NewRecord]) -> None:
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
