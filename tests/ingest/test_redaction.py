"""What people typed, where their source is redacted: it reaches neither the log nor a row."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.database import write
from ingest.events import ActionEvent, Refusal, parse_event
from ingest.keyboard import VOCABULARY
from ingest.redaction import Redaction, fingerprint, redacted
from ingest.sources import redact
from ingest.tables import DeadLetter
from tests.intake import Intake, wire_event

TYPED = "hunter2"
KEYS = st.lists(st.sampled_from(VOCABULARY) | st.text(min_size=1, max_size=12), max_size=20)


def action(keys: list[str]) -> ActionEvent:
    event = parse_event(wire_event(0, payload={"x": 1, "keys_down": keys, "note": TYPED}))
    assert isinstance(event, ActionEvent)
    return event


def keys_of(event: object) -> list[str]:
    assert isinstance(event, ActionEvent)
    return event.payload.keys_down or []


def set_redaction(intake: Intake, redaction: Redaction) -> None:
    with write(intake.engine) as session:
        redact(session, "demo", redaction)


def typed(text: str) -> list[dict[str, object]]:
    return [
        wire_event(number, payload={"x": number, "keys_down": [key], "keys_up": [key]})
        for number, key in enumerate(text)
    ]


def logged(intake: Intake) -> bytes:
    with intake.event_log.reader(lambda _partition: 0) as reader:  # type: ignore[attr-defined]
        return b"".join(record.value for record in reader.poll(0, 1000))


@given(KEYS)
def test_no_typed_character_but_x_is_left_by_a_mask(keys: list[str]) -> None:
    kept = keys_of(redacted(action(keys), "mask"))
    assert {key for key in kept if len(key) == 1 and key.isprintable()} <= {"x"}
    assert "space" not in kept


@given(KEYS)
def test_no_typed_character_at_all_is_left_by_a_drop(keys: list[str]) -> None:
    kept = keys_of(redacted(action(keys), "drop"))
    assert [key for key in kept if key not in "\t\n\r" and len(key) == 1] == []


@given(KEYS)
def test_to_keep_changes_nothing(keys: list[str]) -> None:
    event = action(keys)
    assert redacted(event, "keep") is event


def test_keys_that_have_a_name_and_the_mouse_stay() -> None:
    keys = ["Shift", "ArrowLeft", "Enter", "F5", "a", "7", "num7", " ", "\u00e9", "Unidentified"]
    event = redacted(action(keys), "mask")
    assert keys_of(event) == ["Shift", "ArrowLeft", "Enter", "F5", "x", "x", "x", "x", "x"]
    assert isinstance(event, ActionEvent)
    assert event.payload.x == 1


def test_fields_that_are_not_of_the_contract_go() -> None:
    event = redacted(action([]), "mask")
    assert TYPED not in str(event)


@pytest.mark.parametrize(("redaction", "keys"), [("mask", ["x"]), ("drop", [])])
def test_a_redacted_source_leaves_no_typed_character_in_the_log_or_a_row(
    intake: Intake, redaction: Redaction, keys: list[str]
) -> None:
    set_redaction(intake, redaction)
    intake.take(*typed(TYPED))
    payloads = [orjson.loads(event.payload_json) for event in intake.events()]
    assert len(payloads) == len(TYPED)
    assert {tuple(payload["keys_down"]) for payload in payloads} == {tuple(keys)}
    assert b'"h"' not in logged(intake)


def test_a_redacted_source_gives_no_documents(intake: Intake) -> None:
    set_redaction(intake, "mask")
    document = wire_event(0, kind="document", payload={"text": TYPED})
    answer = intake.post(document, wire_event(1)).json()
    assert (answer["accepted"], answer["rejected"][0]["code"]) == (1, "redacted")
    assert TYPED.encode() not in logged(intake)


def test_a_redacted_log_line_has_no_id_that_tells_what_was_typed(intake: Intake) -> None:
    set_redaction(intake, "mask")
    line = {"session_id": "s", "timestamp": 1.0, "inputs": {"keys_down": ["h"]}}
    other = line | {"inputs": {"keys_down": ["i"]}}
    intake.post_log(orjson.dumps(line))
    intake.post_log(orjson.dumps(other))
    intake.consume()
    assert intake.num_events() == 1
    assert intake.dead_letters() == []


def test_an_unreadable_line_of_a_redacted_source_is_kept_as_its_hash_length_and_reason(
    intake: Intake,
) -> None:
    set_redaction(intake, "drop")
    torn = b'{"session_id": "s", "inputs": {"keys_down": ["hunter2'
    odd = orjson.dumps({"session_id": "s", "timestamp": 1.0, "type": TYPED})
    intake.post_log(torn + b"\n" + odd)
    assert TYPED.encode() not in logged(intake)
    intake.consume()
    kept = {letter.code: letter for letter in intake.rows(DeadLetter, "code")}
    assert kept["torn"].original == fingerprint(torn)
    assert orjson.loads(kept["torn"].original)["num_bytes"] == len(torn)
    assert TYPED not in kept["unknown_type"].detail


def test_a_refused_document_names_its_event() -> None:
    document = parse_event(wire_event(0, kind="document", payload={"text": TYPED}))
    assert not isinstance(document, Refusal)
    refusal = redacted(document, "drop")
    assert isinstance(refusal, Refusal)
    assert refusal.event_id == "s-1-0"
    assert TYPED not in refusal.detail
