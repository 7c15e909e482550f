"""What one log record holds: all that one request brought for one partition.

In: the lines of checked events, and the original bytes of what could not become one. Out: records,
and back. Guaranteed: what damages one line of a record costs its neighbours nothing.
Decision: one record a request and partition (not one an event) makes an append of 500 events a
handful of rows. A record is a line that says what it holds, and then the events as they came: to
encode them anew took the endpoint as long as to check them. What would be a record of more than
1 MiB becomes several, in order; only a single line may exceed that, by its own limit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ingest.events import Event, Refusal, read_event

RECORD_BYTES = 1 << 20


class Unreadable(BaseModel):
    """Something that could not become an event, for the dead letters."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")
    code: str
    detail: str
    original: bytes


class Origin(BaseModel):
    """Whose request it was; `received_at` is the endpoint's wall clock, seconds."""

    model_config = ConfigDict(frozen=True)
    source: str
    received_at: float


class _Head(Origin):
    """A record's first line: the events are as many lines behind it, then the unreadable ones."""

    num_events: int


@dataclass(frozen=True)
class Envelope:
    """A log record's content."""

    origin: Origin
    events: Sequence[Event]
    unreadable: Sequence[Unreadable]

    @classmethod
    def unpack(cls, record: bytes) -> Self:
        """Read a record's bytes; raises pydantic.ValidationError when they are no record.

        A line of it that is damaged is among the unreadable ones.
        """
        first, *lines = record.split(b"\n")
        head = _Head.model_validate_json(first)
        events: list[Event] = []
        unreadable = [_kept(line) for line in lines[head.num_events :]]
        for line in lines[: head.num_events]:
            read = read_event(line)
            if isinstance(read, Refusal):
                unreadable.append(_damaged(line, read.detail))
            else:
                events.append(read)
        return cls(Origin(source=head.source, received_at=head.received_at), events, unreadable)


def pack(
    origin: Origin,
    events: Sequence[bytes],
    unreadable: Sequence[Unreadable],
    max_bytes: int = RECORD_BYTES,
) -> list[bytes]:
    """The bytes of as many records as it takes for none to exceed the limit, in order.

    `events` are lines that `read_event` takes. Nothing is left out: a single line that is longer
    is a record by itself.
    """
    lines = [*events, *(item.model_dump_json().encode() for item in unreadable)]
    free_bytes = max_bytes - len(_record(origin, [], len(events)))
    starts, num_bytes = [0], 0
    for index, line in enumerate(lines):
        num_bytes += 1 + len(line)
        if num_bytes > free_bytes and index > starts[-1]:
            starts.append(index)
            num_bytes = 1 + len(line)
    ends = [*starts[1:], len(lines)]
    return [
        _record(origin, lines[start:end], max(0, min(end, len(events)) - start))
        for start, end in zip(starts, ends, strict=True)
    ]


def thinned(
    record: bytes,
    keeps_event: Callable[[Origin, bytes], bool],
    keeps_unreadable: Callable[[Origin, Unreadable], bool],
) -> bytes:
    """The record without the lines that are not to be kept; its length stays, by spaces.

    Raises pydantic.ValidationError when it is no record.
    """
    first, *lines = record.split(b"\n")
    head = _Head.model_validate_json(first)
    events = [line for line in lines[: head.num_events] if keeps_event(head, line)]
    unreadable = [line for line in lines[head.num_events :] if keeps_unreadable(head, _kept(line))]
    if len(events) + len(unreadable) == len(lines):
        return record
    kept_head = head.model_copy(update={"num_events": len(events)}).model_dump_json().encode()
    shorter = b"\n".join([kept_head, *events, *unreadable])
    padded = kept_head.ljust(len(kept_head) + len(record) - len(shorter))
    return b"\n".join([padded, *events, *unreadable])


def _record(origin: Origin, lines: Sequence[bytes], num_events: int) -> bytes:
    head = _Head(**vars(origin), num_events=num_events)
    return b"\n".join([head.model_dump_json().encode(), *lines])


def _kept(line: bytes) -> Unreadable:
    try:
        return Unreadable.model_validate_json(line)
    except ValidationError:
        return _damaged(line, "no dead letter")


def _damaged(line: bytes, detail: str) -> Unreadable:
    return Unreadable(code="unreadable_record", detail=f"a line of it: {detail}", original=line)
