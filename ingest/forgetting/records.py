"""A log record without what is forgotten; pure.

In: a record's bytes. Out: the same, or as many bytes without some of its lines. Guaranteed: what
stays is as it was; the length does, too, by spaces, so that the database that holds the record
overwrites it in its place and leaves no copy of the old one in a page.
"""

from functools import partial

from pydantic import ValidationError

from ingest.envelope import Origin, Unreadable, thinned
from ingest.events import json_value, session_key
from ingest.forgetting.tombstones import Forgotten


def without(record: bytes, forgotten: Forgotten) -> bytes:
    """The record without what is forgotten.

    A session in which somebody is named who is forgotten becomes known to `forgotten`, as what of
    it names nobody is theirs too.
    """
    keeps_letter = partial(_keeps_letter, forgotten)
    try:
        thinned(record, partial(_learns, forgotten), keeps_letter)
        return thinned(record, partial(_keeps, forgotten), keeps_letter)
    except ValidationError:
        return record  # it becomes a dead letter, and is looked at as one


def _learns(forgotten: Forgotten, origin: Origin, line: bytes) -> bool:
    """Get to know the session of an event that names somebody who is forgotten."""
    session_id, user_id = _whose(line)
    if session_id and forgotten.has_user(origin.source, user_id, origin.received_at):
        forgotten.add_session(session_key(origin.source, session_id))
    return True


def _keeps(forgotten: Forgotten, origin: Origin, line: bytes) -> bool:
    session_id, _ = _whose(line)
    if session_id is None:
        return not forgotten.has_original(origin.source, line, origin.received_at)
    return not forgotten.has_session(session_key(origin.source, session_id))


def _keeps_letter(forgotten: Forgotten, origin: Origin, item: Unreadable) -> bool:
    return not forgotten.has_original(origin.source, item.original, origin.received_at)


def _whose(line: bytes) -> tuple[str | None, str | None]:
    """An event's session and user; neither where the line is damaged."""
    try:
        event = json_value(line)
    except ValueError:
        return None, None
    if not isinstance(event, dict) or not isinstance(event.get("session_id"), str):
        return None, None
    user_id = event.get("user_id")
    return event["session_id"], user_id if isinstance(user_id, str) else None
