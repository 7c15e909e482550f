"""Lines of the deployed demo's log: what they become, and why some become nothing."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.events import Event, Refusal, payload_json
from ingest.neuralos_log import read_line

CLEAN = Path(__file__).parents[2] / "control_api" / "demo" / "logs"
INPUTS = {
    "x": 213.5,
    "y": 97,
    "is_left_click": False,
    "is_right_click": False,
    "keys_down": [],
    "keys_up": ["Enter"],
    "wheel_delta_x": 0,
    "wheel_delta_y": -100,
    "is_auto_input": True,
}


def line(**changed: object) -> bytes:
    fields = {
        "timestamp": 1754504817.4129038,
        "session_id": "1754504816_907",
        "is_eos": False,
        "is_reset": False,
        "inputs": INPUTS,
    }
    return orjson.dumps(fields | changed)


def event(text: bytes, source: str = "demo") -> Event:
    read = read_line(source, text)
    assert not isinstance(read, Refusal), read
    return read


def refusal(text: bytes) -> Refusal:
    read = read_line("demo", text)
    assert isinstance(read, Refusal), read
    return read


def test_a_line_is_an_action_with_its_inputs_as_payload() -> None:
    read = event(line())
    assert (read.kind, read.session_id, read.sequence) == ("action", "1754504816_907", None)
    assert read.timestamp == 1754504817.4129038
    assert orjson.loads(payload_json(read)) == INPUTS


def test_a_reset_line_is_a_reset() -> None:
    assert event(line(is_reset=True, type="reset", inputs=None)).kind == "reset"


def test_an_eos_line_is_an_end() -> None:
    assert event(line(is_eos=True, inputs=None)).kind == "end"


def test_the_older_field_name_is_read() -> None:
    fields = orjson.loads(line())
    fields["client_id"] = fields.pop("session_id")
    assert event(orjson.dumps(fields)).session_id == "1754504816_907"


def test_the_same_line_has_the_same_id_however_it_is_written() -> None:
    fields = orjson.loads(line())
    spaced = orjson.dumps(dict(reversed(fields.items())), option=orjson.OPT_INDENT_2)
    assert event(spaced.replace(b"\n", b"")).event_id == event(line()).event_id


def test_another_source_has_other_ids() -> None:
    assert event(line(), "b").event_id != event(line(), "a").event_id


@pytest.mark.parametrize("length", [1, 40, 150])
def test_a_torn_line_is_torn(length: int) -> None:
    assert refusal(line()[:length]).code == "torn"


def test_nothing_is_salvaged_from_inside_a_torn_line() -> None:
    assert refusal(line()[:60] + line()).code == "torn"


def test_half_a_utf8_character_is_torn() -> None:
    assert refusal(line()[:-3] + b"\xc3").code == "torn"


def test_an_unknown_type_is_refused() -> None:
    read = refusal(line(type="foo", inputs=dict.fromkeys(INPUTS)))
    assert read.code == "unknown_type"
    assert "foo" in read.detail


def test_a_time_that_is_not_a_number_and_a_path_for_a_session_are_both_named() -> None:
    text = line(session_id="../../etc/passwd").replace(b"1754504817.4129038", b"NaN")
    read = refusal(text)
    assert read.code == "invalid"
    assert "session_id: " in read.detail
    assert "timestamp: " in read.detail


def test_a_refusal_speaks_of_inputs_as_the_log_does() -> None:
    assert "inputs.x: " in refusal(line(inputs=INPUTS | {"x": "left"})).detail
    assert "inputs: " in refusal(line(inputs=None)).detail


@pytest.mark.parametrize("marks", [{"is_eos": "false"}, {"is_eos": True, "is_reset": True}])
def test_marks_that_make_no_sense_are_refused(marks: dict[str, object]) -> None:
    assert refusal(line(**marks)).code == "invalid"


@pytest.mark.parametrize("text", [b"null", b"17", b'"x"', b"[]", b"{}"])
def test_json_that_is_no_line_is_invalid(text: bytes) -> None:
    assert refusal(text).code == "invalid"


def test_a_bottomless_line_is_refused() -> None:
    assert refusal(b"[" * 100_000).code == "torn"


@pytest.mark.parametrize("depth", [20, 300, 900, 2_000])
def test_a_deeply_nested_line_is_refused(depth: int) -> None:
    text = line(inputs=INPUTS | {"mine": 1}).replace(
        b":1}", b":" + b"[" * depth + b"]" * depth + b"}"
    )
    assert refusal(text).code in {"invalid", "torn"}


@given(st.binary() | st.text().map(str.encode))
def test_garbage_is_refused_in_words_that_can_be_sent(text: bytes) -> None:
    read = refusal(text)
    orjson.dumps([read.code, read.detail])


@given(st.data())
def test_a_line_with_a_hole_is_an_event_or_a_refusal(data: st.DataObject) -> None:
    whole = line()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    read_line("demo", whole[:start] + whole[end:])


def test_every_line_of_the_clean_logs_is_an_event_of_its_own() -> None:
    lines = [line for path in CLEAN.iterdir() for line in path.read_bytes().splitlines()]
    assert len({event(line).event_id for line in lines}) == len(lines) > 4_000
