"""Formats under fire: whatever comes in, the answer is one that the API names, and nobody suffers.

Each request holds good events between bad ones: every good one must be accepted and logged, every
bad one refused in its own place. How many cases: `tests/fuzzing.py`.
"""

import gzip
import itertools
import json
from collections.abc import Sequence
from contextlib import suppress

import orjson
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from ingest.database import read
from ingest.events import Refusal, json_value, parse_event, read_event
from ingest.filters import FilterError, parse
from ingest.neuralos_log import read_line
from ingest.tables import DeadLetter, EventRow
from tests.fuzzing import cases
from tests.intake import START, Intake, wire_event

ANSWERS = {202, 400, 413, 415, 422}
GOOD = b'{"event_id":"good-'
NDJSON, JSON = "application/x-ndjson", "application/json"

_numbers = itertools.count()

# What parsers disagree about.
HARD_TEXTS = st.sampled_from(
    [
        "\x00",
        "\ud800",
        "\udc00\ud800",
        "\ufeff",
        "\u2028",
        "\u0085",
        "\U0001f600",
        "a\x1fb",
        "\\",
        '"',
    ]
)
HARD_NUMBERS = st.sampled_from(
    [
        "1e400",
        "-1e400",
        "NaN",
        "-Infinity",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1E5",
        "-0",
        "0.1e-400",
        "01",
        "1.",
        ".5",
        "+1",
        "0x10",
        "1_000",
    ]
) | st.just("1" * 400)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | HARD_TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([*wire_event(0), "user_id", "model", "frame", "x"])


def dumped(value: object) -> bytes:
    """As the loosest writer would: with NaN, and half characters as escapes."""
    return json.dumps(value).encode()


@st.composite
def changed_events(draw: st.DrawFn) -> bytes:
    """An event with a field or two that are something else."""
    event = wire_event(draw(st.integers(0, 9)), "bad-@")
    event |= draw(st.dictionaries(NAMES, values, max_size=2))
    event["payload"] = draw(st.just(event["payload"]) | st.dictionaries(st.text(), values))
    return dumped(event)


@st.composite
def odd_numbers(draw: st.DrawFn) -> bytes:
    """An event with a number that JSON may not even know."""
    event = dumped(wire_event(0, "bad-@", timestamp=START, sequence=12345))
    field = draw(st.sampled_from([b"12345", str(START).encode(), b'"y": 60']))
    number = draw(HARD_NUMBERS).encode()
    return event.replace(field, b'"y": ' + number if field.startswith(b'"y"') else number)


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """An event's bytes with a hole, a wrong byte, or another's in the midst of it."""
    line = dumped(wire_event(0, "bad-@"))
    start = draw(st.integers(0, len(line)))
    end = draw(st.integers(start, len(line)))
    middle = draw(
        st.sampled_from([b"", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", line, b"\r", b"\t"])
    )
    return line[:start] + middle + line[end:]


@st.composite
def doubled_keys(draw: st.DrawFn) -> bytes:
    """An event that says the same field twice."""
    line = dumped(wire_event(0, "bad-@"))
    again = dumped({draw(NAMES): draw(values)})
    return line[:-1] + b", " + again[1:]


deep = st.builds(
    lambda depth, pair: b'{"payload": ' + pair[0] * depth + pair[1] * depth + b"}",
    st.sampled_from([15, 17, 100, 1_000, 5_000]),
    st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b"[", b"")]),
)
encoded = st.builds(
    lambda event, name: dumped(event).decode().encode(name),
    st.just(wire_event(0, "bad")),
    st.sampled_from(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]),
)
BAD = st.one_of(
    changed_events(), odd_numbers(), torn(), doubled_keys(), deep, encoded, st.binary(max_size=40)
).map(lambda line: line.replace(b"\n", b" "))


def good_line(number: int) -> bytes:
    return orjson.dumps(wire_event(0, f"good-@-{number}", payload={"x": 1, "mine": "\u2028\x00"}))


@st.composite
def mixed_lines(draw: st.DrawFn) -> list[bytes]:
    """Bad lines, and one or two good ones among them."""
    lines = draw(st.lists(BAD, max_size=4))
    for number in range(draw(st.integers(1, 2))):
        lines.insert(draw(st.integers(0, len(lines))), good_line(number))
    return lines


def made_new(lines: Sequence[bytes]) -> list[bytes]:
    """The lines with ids that no case before had."""
    number = b"%d" % next(_numbers)
    return [line.replace(b"@", number) for line in lines]


def post(intake: Intake, path: str, body: bytes, media_type: str, encoding: str) -> int:
    headers = {"Content-Type": media_type, "Content-Encoding": encoding}
    return intake.client.post(path, content=body, headers=headers).status_code


def check_neighbours(intake: Intake, body: bytes, media_type: str, lines: Sequence[bytes]) -> None:
    """Every good event is accepted, every other line is accepted or refused where it stands."""
    answer = intake.client.post("/v1/events", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == 202, (body, answer.text)
    said = answer.json()
    refused = {verdict["index"] for verdict in said["rejected"]}
    counted = [line for line in lines if line.strip()]
    assert said["accepted"] + said["duplicate"] + len(refused) == len(counted)
    assert not any(counted[index].startswith(GOOD) for index in refused), (body, said)


@cases(30)
@given(mixed_lines())
def test_bad_lines_of_ndjson_harm_no_neighbour(intake: Intake, drawn: list[bytes]) -> None:
    lines = made_new(drawn)
    check_neighbours(intake, b"\n".join(lines), NDJSON, lines)


@cases(15)
@given(mixed_lines())
def test_bad_values_in_an_array_harm_no_neighbour(intake: Intake, drawn: list[bytes]) -> None:
    values_only = [line for line in made_new(drawn) if is_json(line)]
    check_neighbours(intake, b"[" + b",".join(values_only) + b"]", JSON, values_only)


def is_json(line: bytes) -> bool:
    try:
        json_value(line)
    except ValueError:
        return False
    return True


@cases(5)
@given(st.lists(mixed_lines(), min_size=1, max_size=3))
def test_what_was_accepted_becomes_a_row_whatever_lay_beside_it(
    intake: Intake, drawn: list[list[bytes]]
) -> None:
    good: set[str] = set()
    for lines in map(made_new, drawn):
        check_neighbours(intake, b"\n".join(lines), NDJSON, lines)
        good |= {line.decode().split('"')[3] for line in lines if line.startswith(GOOD)}
    intake.consume()
    with read(intake.engine) as session:
        stored = session.scalars(select(EventRow.event_id).where(EventRow.event_id.in_(good)))
        assert set(stored) == good
        damaged = select(DeadLetter).where(DeadLetter.code == "unreadable_record")
        assert session.scalars(damaged).first() is None


@cases(10)
@given(
    mixed_lines(),
    st.sampled_from(["/v1/events", "/v1/logs/neuralos"]),
    st.sampled_from([NDJSON, JSON, "", "text/plain; charset=utf-16", "text/html"]),
    st.data(),
)
def test_a_gzip_body_cut_or_damaged_anywhere_is_an_answer(
    intake: Intake,
    drawn: list[bytes],
    path: str,
    media_type: str,
    data: st.DataObject,
) -> None:
    body = bytearray(gzip.compress(b"\n".join(drawn)))
    place = data.draw(st.integers(0, len(body) - 1))
    match data.draw(st.sampled_from(["whole", "cut", "damaged", "doubled", "not gzip"])):
        case "cut":
            del body[place:]
        case "damaged":
            body[place] ^= data.draw(st.integers(1, 255))
        case "doubled":
            body += body[:place]
        case "not gzip":
            body = bytearray(b"\n".join(drawn))
    assert post(intake, path, bytes(body), media_type, "gzip") in ANSWERS


@cases(10)
@given(st.lists(BAD, max_size=4), st.data())
def test_bad_lines_of_a_neuralos_log_harm_no_neighbour(
    intake: Intake, bad: list[bytes], data: st.DataObject
) -> None:
    number = next(_numbers)
    bad = made_new(bad)
    good = orjson.dumps(
        {
            "timestamp": START + number,
            "session_id": f"log-{number}",
            "is_eos": False,
            "is_reset": False,
            "inputs": {"x": 1, "y": 2, "keys_down": []},
        }
    )
    place = data.draw(st.integers(0, len(bad)))
    lines = [*bad[:place], good, *bad[place:]]
    answer = intake.post_log(b"\n".join(lines))
    assert answer.status_code == 202, answer.text
    counted = [line for line in lines if line.strip()]
    assert counted.index(good) not in {verdict["index"] for verdict in answer.json()["rejected"]}


@cases(10)
@given(BAD | st.binary())
def test_a_line_of_a_log_is_an_event_or_a_refusal_that_can_be_sent(line: bytes) -> None:
    for judged in (read_line("demo", line), read_event(line)):
        if isinstance(judged, Refusal):
            orjson.dumps([judged.code, judged.detail, judged.event_id])


@cases(10)
@given(BAD)
def test_a_line_and_its_parsed_value_are_judged_alike(line: bytes) -> None:
    judged = read_event(line)
    try:
        value = json_value(line)
    except ValueError:
        assert isinstance(judged, Refusal)
        return
    parsed = parse_event(value)
    assert type(judged) is type(parsed)
    if isinstance(judged, Refusal):
        assert judged == parsed


FILTER_PARTS = st.sampled_from(
    [
        "task:",
        "user:",
        "age<",
        "age>",
        "-",
        ",",
        "7d",
        "split:eval",
        "auto:yes",
        "session:",
        "open_browser",
        "()",
        "%",
        ";--",
        "*",
    ]
) | st.sampled_from(['"', "'", "\\", " ", "\x00", "\ud800", "\u00a0", "9" * 30])


@cases(10)
@given(st.lists(FILTER_PARTS | st.text(max_size=6), max_size=12).map("".join))
def test_a_filter_is_read_or_refused_and_never_a_bug(text: str) -> None:
    with suppress(FilterError):
        str(parse(text).where(START))
