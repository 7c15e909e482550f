"""Redaction: what somebody typed is made unreadable before the event log has it; pure.

In: a checked event, and how its source is redacted. Out: the event as it may be kept, or a
`Refusal`. Guaranteed: of an action only the fields of the contract stay, and in them no character
that was typed: `mask` puts `x` in its place, so that the replay types `x` as well, `drop` leaves it
out; keys that only have a name (Enter, Shift, F5, the arrows) and the mouse stay. What could not be
read is kept as its hash, its length and the reason.

Decision: a document is nothing but what somebody wrote, and a model that learns from rows of `x` is
worse than one that learns from less, so a redacted source's documents are refused, and the sender
is told.
"""

from typing import Literal, get_args

import orjson
from blake3 import blake3

from ingest.events import ActionEvent, ActionPayload, DocumentEvent, Event, Refusal
from ingest.ids import content_id
from ingest.keyboard import VOCABULARY, normalise

Redaction = Literal["keep", "mask", "drop"]
REDACTIONS: tuple[Redaction, ...] = get_args(Redaction)
MASK = "x"

_NAMED_CHARACTERS = frozenset(
    {"space", "add", "subtract", "multiply", "divide", "decimal", "yen"}
    | {f"num{digit}" for digit in range(10)}
)
_NAMED_KEYS = frozenset(name for name in VOCABULARY if len(name) > 1) - _NAMED_CHARACTERS
_LIKE_NAMED = frozenset("\t\n\r")  # Tab and Enter, as some clients write them


def redacted(event: Event, redaction: Redaction) -> Event | Refusal:
    """The event as its source lets it be kept."""
    if redaction == "keep":
        return event
    if isinstance(event, DocumentEvent):
        detail = f"kind: its source is redacted ({redaction}), so it gives no documents"
        return Refusal("redacted", detail, event.event_id)
    payload = _payload(event, redaction) if isinstance(event, ActionEvent) else None
    return event.model_copy(update={"payload": payload})


def renamed(source: str, event: Event) -> Event:
    """A redacted log line's event with an id from what is left of it.

    Its first one was the hash of the whole line, by which what was typed could be guessed, key by
    key.
    """
    said = event.model_dump(exclude={"event_id"}, exclude_unset=True)
    line = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return event.model_copy(update={"event_id": content_id(source, event.session_id, line)})


def fingerprint(original: bytes) -> bytes:
    """What is kept of bytes that could not be read: JSON with their blake3 and their number."""
    return orjson.dumps({"blake3": blake3(original).hexdigest(), "num_bytes": len(original)})


def _payload(event: ActionEvent, redaction: Redaction) -> ActionPayload:
    known = {
        name: getattr(event.payload, name)
        for name in ActionPayload.model_fields
        if name in event.payload.model_fields_set
    }
    for name in ("keys_down", "keys_up"):
        if known.get(name):
            known[name] = _keys(known[name], redaction)
    return ActionPayload(**known)


def _keys(keys: list[str], redaction: Redaction) -> list[str]:
    """Named keys as they are, typed characters by the rule; a name that no keyboard has goes."""
    kept: list[str] = []
    for key in keys:
        if key in _LIKE_NAMED or normalise(key) in _NAMED_KEYS:
            kept.append(key)
        elif redaction == "mask" and (len(key) == 1 or normalise(key) in _NAMED_CHARACTERS):
            kept.append(MASK)
    return kept
