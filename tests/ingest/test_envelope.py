"""Envelopes: into records of a bounded size and back, nothing left out, nothing moved."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.envelope import Envelope, Unreadable
from ingest.events import Event, parse_event
from tests.intake import wire_event

LIMIT = 2_000


def document(number: int, size: int) -> Event:
    event = parse_event(wire_event(number, kind="document", payload={"text": "x" * size}))
    assert not hasattr(event, "code")
    return event  # type: ignore[return-value]


def unreadable(number: int, size: int) -> Unreadable:
    return Unreadable(code="invalid", detail=str(number), original=b"\xff" * size)


sizes = st.lists(st.integers(1, 3_000), max_size=20)


@given(sizes, sizes)
def test_split_records_hold_the_same_in_the_same_order(first: list[int], second: list[int]) -> None:
    whole = Envelope(
        source="demo",
        received_at=1.5,
        events=[document(number, size) for number, size in enumerate(first)],
        unreadable=[unreadable(number, size) for number, size in enumerate(second)],
    )
    values = whole.pack_split(LIMIT)
    parts = [Envelope.unpack(value) for value in values]
    assert [event for part in parts for event in part.events] == whole.events
    assert [item for part in parts for item in part.unreadable] == whole.unreadable
    assert {(part.source, part.received_at) for part in parts} == {("demo", 1.5)}
    for value, part in zip(values, parts, strict=True):
        assert len(value) <= LIMIT or len(part.events) + len(part.unreadable) == 1


def test_what_fits_is_one_record() -> None:
    whole = Envelope(source="demo", received_at=1.5, events=[document(1, 5)], unreadable=[])
    assert whole.pack_split() == [whole.pack()]
