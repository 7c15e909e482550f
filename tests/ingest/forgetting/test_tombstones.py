"""What falls under a tombstone, and what bytes that could not be read say of whose they are."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ingest.envelope import Envelope, Origin, Unreadable, pack
from ingest.events import session_key
from ingest.forgetting.records import without
from ingest.forgetting.tombstones import (
    Forgotten,
    session_tombstone,
    tombstones_in,
    user_tombstone,
)
from tests.intake import wire_event

NAMES = st.sampled_from(["ann", "bob", "x", "..", "a:b"])
EVENTS = st.lists(st.tuples(NAMES, st.none() | NAMES), max_size=8)


def record(events: list[tuple[str, str | None]], letters: list[bytes], at: float = 5.0) -> bytes:
    lines = [
        orjson.dumps(wire_event(number, session_id, user_id=user_id))
        for number, (session_id, user_id) in enumerate(events)
    ]
    unreadable = [Unreadable(code="torn", detail="", original=letter) for letter in letters]
    [packed] = pack(Origin(source="demo", received_at=at), lines, unreadable)
    return packed


def session_named(name: str) -> dict[str, float]:
    return {session_tombstone(session_key("demo", name)): 9.0}


@given(EVENTS, NAMES)
def test_a_record_keeps_all_and_only_what_is_not_forgotten_and_its_length(
    events: list[tuple[str, str | None]], name: str
) -> None:
    before = record(events, [])
    after = without(before, Forgotten(session_named(name)))
    assert len(after) == len(before)
    kept = [event.session_id for event in Envelope.unpack(after).events]
    assert kept == [session_id for session_id, _ in events if session_id != name]
    assert without(after, Forgotten(session_named(name))) == after


def test_a_session_in_which_a_user_is_named_goes_with_what_names_nobody() -> None:
    forgotten = Forgotten({user_tombstone("demo", "ann"): 9.0})
    after = without(record([("s", None), ("s", "ann"), ("t", None)], []), forgotten)
    assert [event.session_id for event in Envelope.unpack(after).events] == ["t"]
    assert forgotten.has_session(session_key("demo", "s"))


def test_what_was_received_after_a_user_was_forgotten_stays() -> None:
    forgotten = Forgotten({user_tombstone("demo", "ann"): 4.0})
    later = record([("s", "ann")], [], at=5.0)
    assert without(later, forgotten) == later


def test_a_name_of_another_source_is_somebody_else() -> None:
    forgotten = Forgotten({user_tombstone("other", "ann"): 9.0})
    theirs = record([("s", "ann")], [])
    assert without(theirs, forgotten) == theirs


def test_lines_that_could_not_be_read_go_by_whom_they_name() -> None:
    letters = [
        orjson.dumps({"client_id": "s", "inputs": None}),
        b'{"timestamp": NaN, "session_id" : "s"}',
        b'{"session_id":"s","inputs":{"x',
        b'{"session_id":"t","inputs":{"x',
        b'{"inputs":{"session_id": 3',
    ]
    after = without(record([], letters), Forgotten(session_named("s")))
    assert [item.original for item in Envelope.unpack(after).unreadable] == letters[3:]


@given(st.binary(max_size=200))
def test_any_bytes_can_be_asked_whom_they_name(original: bytes) -> None:
    assert isinstance(tombstones_in("demo", original), list)


@given(st.binary(max_size=200))
def test_what_is_no_record_stays(original: bytes) -> None:
    assert without(original, Forgotten(session_named("s"))) == original
