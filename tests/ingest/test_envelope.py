"""Records: bounded, and they give back what was put in; nothing left out, nothing moved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest.envelope import Envelope, Origin, Unreadable, pack
from ingest.events import event_line, parse_event
from tests.intake import wire_event

LIMIT = 2_000
ORIGIN = Origin(source="demo", received_at=1.5)


def document(number: int, size: int) -> bytes:
    event = parse_event(wire_event(number, kind="document", payload={"text": "x" * size}))
    assert not hasattr(event, "code")
    return event_line(event)  # type: ignore[arg-type]


def unreadable(number: int, size: int) -> Unreadable:
    return Unreadable(code="invalid", detail=str(number), original=b"\n\xff" * size)


sizes = st.lists(st.integers(1, 3_000), max_size=20)


@given(sizes, sizes)
def test_split_records_hold_the_same_in_the_same_order(first: list[int], second: list[int]) -> None:
    events = [document(number, size) for number, size in enumerate(first)]
    refused = [unreadable(number, size) for number, size in enumerate(second)]
    records = pack(ORIGIN, events, refused, LIMIT)
    parts = [Envelope.unpack(record) for record in records]
    assert [event_line(event) for part in parts for event in part.events] == events
    assert [item for part in parts for item in part.unreadable] == refused
    assert {part.origin for part in parts} == {ORIGIN}
    for record, part in zip(records, parts, strict=True):
        assert len(record) <= LIMIT or len(part.events) + len(part.unreadable) == 1


def test_what_fits_is_one_record() -> None:
    assert len(pack(ORIGIN, [document(1, 5)], [unreadable(1, 5)])) == 1


def test_an_event_is_in_the_record_as_it_came() -> None:
    line = b'{ "event_id":"e","kind":"end","session_id":"s","timestamp":1e0}'
    [record] = pack(ORIGIN, [line], [])
    assert record.endswith(b"\n" + line)
    assert Envelope.unpack(record).events[0].timestamp == 1.0


def test_a_damaged_line_costs_its_neighbours_nothing() -> None:
    lines = [document(number, 5) for number in range(3)]
    [record] = pack(ORIGIN, lines, [unreadable(1, 5)])
    damaged = record.replace(lines[1], lines[1][:-9])
    envelope = Envelope.unpack(damaged)
    assert [event_line(event) for event in envelope.events] == [lines[0], lines[2]]
    kept = {item.code: item.original for item in envelope.unreadable}
    assert kept == {"invalid": b"\n\xff" * 5, "unreadable_record": lines[1][:-9]}


@pytest.mark.parametrize("record", [b"", b"{}", b"\x00 no record", b'{"source":"demo"}\n{}'])
def test_what_is_no_record_is_refused(record: bytes) -> None:
    with pytest.raises(ValidationError):
        Envelope.unpack(record)
