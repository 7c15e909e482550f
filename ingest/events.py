"""The event contract: what production sends, checked at the border, one event at a time.

In: one JSON value, parsed or as a line. Out: an `Event`, or a `Refusal` that names each bad field
and why.
Guaranteed: an accepted event is finite, bounded and plain JSON, so nothing behind the border checks
again; extra keys are refused at the top level (a typing error would be lost) and kept in `payload`.
Decision: identity is (source, event_id), and two events are the same if their `digest` is: absent,
null and default fields count as equal there, so a client's next release may retry an older event.
A line is parsed and checked in one pass (4 us here, half of that in two), and only one that does
not pass is looked at more closely.
"""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ingest.ids import content_id

MAX_TIMESTAMP_S = 4_102_444_800  # the year 2100: milliseconds do not pass for seconds
MAX_PAYLOAD_DEPTH = 16
MAX_TEXT_BYTES = 65_536
MAX_NAMED_FIELDS = 5
MAX_DETAIL_LENGTH = 500
KINDS = ("action", "reset", "end", "document")
_TAGS = {(kind,) for kind in KINDS}


def _plain_json(value: object, depth: int = MAX_PAYLOAD_DEPTH) -> object:
    """Pass JSON that any reader of ours can hold: finite, and nested no deeper than `depth`."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    if isinstance(value, str) and _printable(value) != value:
        raise ValueError("must be whole Unicode characters")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("must fit in 64 bits")
    if isinstance(value, list | dict):
        if depth == 0:
            raise ValueError(f"must not be nested deeper than {MAX_PAYLOAD_DEPTH}")
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        for inner in inside:
            _plain_json(inner, depth - 1)
    return value


def _some_text(text: str) -> str:
    """Pass what a trainer can draw as one sample."""
    if not text.strip():
        raise ValueError("must hold more than white space")
    num_bytes = len(text.encode())
    if num_bytes > MAX_TEXT_BYTES:
        raise ValueError(
            f"at most {MAX_TEXT_BYTES} bytes as UTF-8, not {num_bytes}; send several documents"
        )
    return text


Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
Timestamp = Annotated[float, Field(ge=0, lt=MAX_TIMESTAMP_S, description="seconds, UTC")]
Key = Annotated[str, Field(max_length=64)]
Keys = Annotated[list[Key], Field(max_length=64)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_plain_json)]]


class ActionPayload(_Payload):
    """Raw client values of a NeuralOS action; replay clamps coordinates and normalises keys."""

    x: float | None = None
    y: float | None = None
    is_left_click: bool | None = None
    is_right_click: bool | None = None
    keys_down: Keys | None = None
    keys_up: Keys | None = None
    wheel_delta_x: float | None = None
    wheel_delta_y: float | None = None
    is_auto_input: bool | None = Field(default=None, description="made by a timer, not a person")


class DocumentPayload(_Payload):
    """One text, which becomes one sample."""

    text: Annotated[str, AfterValidator(_some_text)] = Field(
        description=f"not empty, at most {MAX_TEXT_BYTES} bytes as UTF-8"
    )


class MarkPayload(_Payload):
    """A reset or an end needs no payload; what comes is kept."""


class _EventFields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    event_id: Identifier = Field(description="made by the client; a retry carries the same one")
    session_id: Identifier
    user_id: Identifier | None = Field(default=None, description="a pseudonym")
    sequence: int | None = Field(
        default=None, ge=0, lt=2**53, description="0, 1, 2 ... within the session"
    )
    timestamp: Timestamp
    model: Identifier | None = Field(default=None, description="checkpoint that the user saw")
    frame: Identifier | None = Field(default=None, description="hash of the picture that was seen")


class ActionEvent(_EventFields):
    """Something that a person (or the page's timer) did."""

    kind: Literal["action"]
    payload: ActionPayload


class ResetEvent(_EventFields):
    """The model was started again."""

    kind: Literal["reset"]
    payload: MarkPayload | None = None


class EndEvent(_EventFields):
    """The session ended."""

    kind: Literal["end"]
    payload: MarkPayload | None = None


class DocumentEvent(_EventFields):
    """A text to learn from."""

    kind: Literal["document"]
    payload: DocumentPayload


Event = ActionEvent | ResetEvent | EndEvent | DocumentEvent
WireEvent = Annotated[Event, Field(discriminator="kind")]
_EVENT: TypeAdapter[Event] = TypeAdapter(WireEvent)


@dataclass(frozen=True)
class Refusal:
    """Why something can't become an event; `event_id` where it could be read."""

    code: str
    detail: str
    event_id: str | None = None


class Verdict(BaseModel):
    """Why one event of a request was rejected; `index` counts from 0 in the request."""

    index: int
    event_id: str | None
    code: str
    detail: str


class BatchAnswer(BaseModel):
    """The endpoint's answer: every event of the request is in exactly one of the three."""

    accepted: int
    duplicate: int
    rejected: list[Verdict]


def read_event(line: bytes) -> Event | Refusal:
    """Check one line of JSON against the contract."""
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        pass  # why, in our words, says who parses it first
    try:
        return parse_event(json_value(line))
    except ValueError as error:
        return Refusal("invalid", f"event: not JSON: {error}")


def json_value(text: bytes) -> object:
    """One JSON value; raises ValueError.

    NaN and Infinity, which some writers put out, pass: the contract refuses them where they stand,
    so that they do not take their neighbours with them.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as strict:
        try:
            return json.loads(text.decode())  # bytes it would take for UTF-16, too
        except (ValueError, RecursionError):
            raise strict from None


def parse_event(value: object) -> Event | Refusal:
    """Check one JSON value against the contract."""
    try:
        return _EVENT.validate_python(value)
    except ValidationError as error:
        return Refusal("invalid", _explain(error), _readable_event_id(value))


def event_digest(event: Event) -> str:
    """Hash of what the event says: tells a retry from a conflict."""
    said = event.model_dump(exclude_none=True, exclude_defaults=True)
    return content_id(orjson.dumps(said, option=orjson.OPT_SORT_KEYS))


def event_line(event: Event) -> bytes:
    """The event as `read_event` takes it."""
    return event.model_dump_json(exclude_unset=True).encode()


def payload_json(event: Event) -> str:
    """The payload as it came."""
    return "{}" if event.payload is None else event.payload.model_dump_json(exclude_unset=True)


def session_key(source: str, session_id: str) -> str:
    """The one name of a session over all sources."""
    return content_id(source, session_id)


def partition_of(key: str, num_partitions: int) -> int:
    """The log partition of a session (or of any other content id)."""
    return int(key[:8], 16) % num_partitions


def _readable_event_id(value: object) -> str | None:
    event_id = value.get("event_id") if isinstance(value, dict) else None
    return _printable(event_id, 128) if isinstance(event_id, str) else None


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    named = [_say(problem["type"], problem["loc"], problem["msg"]) for problem in problems]
    shown = named[:MAX_NAMED_FIELDS]
    if len(named) > len(shown):
        shown.append(f"and {len(named) - len(shown)} more")
    return _printable("; ".join(shown), MAX_DETAIL_LENGTH)


def _say(problem: str, location: tuple[int | str, ...], message: str) -> str:
    if problem.startswith("union_tag"):
        return f"kind: must be one of {', '.join(KINDS)}"
    # The union puts its own tag first, which the client never wrote.
    field = ".".join(str(part) for part in location[location[:1] in _TAGS :])
    if problem == "extra_forbidden":
        return f"{field}: no such field; what is yours belongs into payload"
    if (problem, field) == ("less_than", "timestamp"):
        return "timestamp: must be seconds since 1970, not milliseconds"
    if problem == "string_pattern_mismatch":
        return f"{field}: must be 1 to 128 of A-Z a-z 0-9 . _ : -"
    return f"{field or 'event'}: {message.removeprefix('Value error, ')}"


def _printable(text: str, max_length: int | None = None) -> str:
    """Cut to size, and without the lone surrogates that no UTF-8 could carry."""
    return text[:max_length].encode(errors="replace").decode()
