"""The event contract: what passes, and what a refusal says."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.events import (
    Event,
    Refusal,
    event_digest,
    parse_event,
    partition_of,
    payload_json,
    session_key,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def wire(**changed: object) -> dict[str, object]:
    return {
        "event_id": "e-1",
        "session_id": "s-1",
        "sequence": 0,
        "timestamp": 1_754_600_000.25,
        "kind": "action",
        "payload": {"x": 66, "y": 60.5, "is_left_click": True, "keys_down": ["Enter"]},
    } | changed


def accepted(**changed: object) -> Event:
    event = parse_event(wire(**changed))
    assert not isinstance(event, Refusal), event
    return event


def refused(**changed: object) -> str:
    refusal = parse_event(wire(**changed))
    assert isinstance(refusal, Refusal), refusal
    assert refusal.code == "invalid"
    return refusal.detail


@pytest.mark.parametrize("kind", ["reset", "end"])
def test_a_mark_needs_no_payload(kind: str) -> None:
    event = wire(kind=kind)
    del event["payload"]
    assert not isinstance(parse_event(event), Refusal)


def test_a_document_is_an_event() -> None:
    assert accepted(kind="document", payload={"text": "once upon a time"}).kind == "document"


def test_wild_and_missing_coordinates_are_accepted_raw() -> None:
    event = accepted(payload={"x": -14.5, "y": 1e6, "is_left_click": None})
    assert orjson.loads(payload_json(event)) == {"x": -14.5, "y": 1e6, "is_left_click": None}


def test_a_payload_keeps_fields_that_only_the_sender_knows() -> None:
    event = accepted(payload={"x": 1, "zoom": {"levels": [1, 2.5, "far"]}})
    assert orjson.loads(payload_json(event))["zoom"] == {"levels": [1, 2.5, "far"]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"event_id": ""}, "event_id: must be 1 to 128"),
        ({"event_id": "x" * 129}, "event_id: must be 1 to 128"),
        ({"session_id": "../../etc/passwd"}, "session_id: must be 1 to 128"),
        ({"user_id": "a b"}, "user_id: must be"),
        ({"sequence": -1}, "sequence: "),
        ({"sequence": True}, "sequence: "),
        ({"timestamp": math.nan}, "timestamp: "),
        ({"timestamp": "now"}, "timestamp: "),
        ({"timestamp": 1_754_600_000_250}, "timestamp: must be seconds since 1970"),
        ({"kind": "click"}, "kind: must be one of action, reset, end, document"),
        ({"kind": ["action"]}, "kind: must be one of"),
        ({"sesion": "s"}, "sesion: no such field"),
        ({"payload": None}, "payload: "),
        ({"payload": {"x": math.inf}}, "payload.x: "),
        ({"payload": {"x": True}}, "payload.x: "),
        ({"payload": {"keys_down": ["k" * 65]}}, "payload.keys_down.0: "),
        ({"kind": "document", "payload": {}}, "payload.text: "),
        ({"kind": "document", "payload": {"text": ""}}, "payload.text: must hold more than white"),
        ({"kind": "document", "payload": {"text": " \n"}}, "payload.text: must hold more than"),
        ({"kind": "document", "payload": {"text": b"x"}}, "payload.text: "),
        ({"kind": "document", "payload": {"text": "\ud800"}}, "payload.text: "),
        (
            {"kind": "document", "payload": {"text": "\u00e9" * 32_769}},
            "payload.text: at most 65536 bytes as UTF-8, not 65538; send several documents",
        ),
        ({"payload": {"mine": [math.nan]}}, "payload.mine: must be finite"),
        ({"payload": {"mine": 2**63}}, "payload.mine: must fit in 64 bits"),
        ({"payload": {"mine": "\ud800"}}, "payload.mine: must be whole Unicode"),
    ],
)
def test_a_refusal_names_the_field(changed: dict[str, object], said: str) -> None:
    assert said in refused(**changed)


def test_a_refusal_names_every_wrong_field() -> None:
    detail = refused(session_id="../x", timestamp=math.nan)
    assert "session_id: " in detail
    assert "timestamp: " in detail


def test_a_payload_may_not_be_nested_without_end() -> None:
    deep: object = 1
    for _ in range(900):
        deep = [deep]
    assert "nested deeper" in refused(payload={"mine": deep})


def test_a_refusal_carries_the_event_id_where_there_is_one() -> None:
    refusal = parse_event(wire(timestamp=-1))
    assert isinstance(refusal, Refusal)
    assert refusal.event_id == "e-1"


@given(json_values)
def test_any_json_gets_an_event_or_a_refusal_that_can_be_sent(value: object) -> None:
    read = parse_event(value)
    assert isinstance(read, Refusal)
    orjson.dumps([read.code, read.detail, read.event_id])


@given(st.dictionaries(st.text(), json_values))
def test_whatever_payload_is_accepted_can_be_stored_and_read_again(payload: object) -> None:
    read = parse_event(wire(payload=payload))
    if not isinstance(read, Refusal):
        stored = orjson.loads(payload_json(read))
        again = accepted(payload=stored)
        assert event_digest(again) == event_digest(read)


def test_an_event_says_the_same_with_its_defaults_spelled_out() -> None:
    explicit = accepted(user_id=None, model=None)
    assert event_digest(explicit) == event_digest(accepted())


@pytest.mark.parametrize(
    "changed", [{"timestamp": 1.0}, {"session_id": "s-2"}, {"payload": {"x": 67}}, {"sequence": 9}]
)
def test_another_content_has_another_digest(changed: dict[str, object]) -> None:
    assert event_digest(accepted(**changed)) != event_digest(accepted())


@given(st.text(), st.text(), st.integers(1, 256))
def test_a_session_has_one_partition(source: str, session_id: str, num_partitions: int) -> None:
    key = session_key(source, session_id)
    assert 0 <= partition_of(key, num_partitions) < num_partitions
