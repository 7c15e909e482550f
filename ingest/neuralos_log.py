"""One line of the deployed NeuralOS demo's interaction log, as the worker wrote it, to an event.

In: the bytes of one line. Out: an `Event`, or a `Refusal`: `torn` (not JSON: a write was cut off),
`unknown_type` (the page sent a message that the model took for an empty input) or `invalid`.
Guaranteed: the same line of the same source always gives the same event_id, so a file may be sent
any number of times; `session_id` may have its older name `client_id`.
Decision: nothing is salvaged from inside a torn line. What a half-written line meant is a guess,
and a guess is not an event; the bytes are kept as a dead letter.
"""

import json
from collections.abc import Mapping

import orjson

from ingest.events import Event, Refusal, parse_event
from ingest.ids import content_id

KNOWN_TYPES = (None, "reset")


def read_line(source: str, line: bytes) -> Event | Refusal:
    """Read one line of a log, without its line break."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _explain_unreadable(line)
    if not isinstance(fields, dict):
        return Refusal("invalid", "line: must be a JSON object")
    try:
        event_id = _event_id(source, fields)
    except orjson.JSONEncodeError:
        return Refusal("invalid", "line: nested too deeply")
    return _read_fields(fields, event_id)


def _read_fields(fields: Mapping[str, object], event_id: str) -> Event | Refusal:
    if fields.get("type") not in KNOWN_TYPES:
        return Refusal("unknown_type", f"type: {str(fields['type'])[:80]!r} is no kind of input")
    marks = fields.get("is_reset", False), fields.get("is_eos", False)
    if not all(isinstance(mark, bool) for mark in marks) or all(marks):
        return Refusal("invalid", "is_reset, is_eos: must be booleans, and not both true")
    read = parse_event(
        {
            "event_id": event_id,
            "session_id": _session_id(fields),
            "timestamp": fields.get("timestamp"),
            "kind": _kind(fields),
            "payload": fields.get("inputs"),
        }
    )
    if isinstance(read, Refusal):
        # In the words of the log; the id is ours and would mean nothing to the sender.
        return Refusal(read.code, read.detail.replace("payload", "inputs"))
    return read


def _kind(fields: Mapping[str, object]) -> str:
    if fields.get("is_reset"):
        return "reset"
    return "end" if fields.get("is_eos") else "action"


def _session_id(fields: Mapping[str, object]) -> object:
    return fields["session_id"] if "session_id" in fields else fields.get("client_id")


def _event_id(source: str, fields: Mapping[str, object]) -> str:
    line = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return content_id(source, str(_session_id(fields)), line)


def _explain_unreadable(line: bytes) -> Refusal:
    """Name the fields of a line that Python's looser reader takes (NaN, Infinity), else torn."""
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        return Refusal("torn", "line: not JSON; its writing was cut off")
    if isinstance(fields, dict):
        read = _read_fields(fields, event_id="unreadable")
        if isinstance(read, Refusal):
            return read
    return Refusal("invalid", "line: holds what JSON can't say (NaN, Infinity, half a character)")
