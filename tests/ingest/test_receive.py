"""The endpoint: what it takes, what it refuses and in which words."""

import gzip
import json
import sqlite3

import orjson
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from ingest.database import write
from ingest.keys import create_key
from ingest.log.embedded import EmbeddedLog
from ingest.settings import Settings
from tests.intake import Intake, wire_event
from tests.serving import ingest_app

# The installation is shared by a property's examples on purpose: they must not harm each other.
shares_fixtures = hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)


def post(intake: Intake, body: bytes, path: str = "/v1/events", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return intake.client.post(path, content=body, headers=named)


def lines(*events: object) -> bytes:
    return b"\n".join(orjson.dumps(event) for event in events)


def problem(answer: Response, status: int) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body["status"] == status
    return body


def test_events_are_accepted_and_are_in_the_log(intake: Intake) -> None:
    answer = intake.post(wire_event(0), wire_event(1))
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 2, "duplicate": 0, "rejected": []}
    intake.consume()
    assert [event.event_id for event in intake.events()] == ["s-1-0", "s-1-1"]


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl", ""])
def test_ndjson_is_read(intake: Intake, content_type: str) -> None:
    body = lines(wire_event(0), wire_event(1)) + b"\r\n\n"
    assert post(intake, body, Content_Type=content_type).json()["accepted"] == 2


def test_a_single_object_is_a_batch_of_one(intake: Intake) -> None:
    body = orjson.dumps(wire_event(0), option=orjson.OPT_INDENT_2)
    assert post(intake, body, Content_Type="application/json").json()["accepted"] == 1


def test_gzip_is_read(intake: Intake) -> None:
    body = gzip.compress(lines(wire_event(0))) + gzip.compress(b"\n" + lines(wire_event(1)))
    answer = post(intake, body, Content_Type="application/x-ndjson", Content_Encoding="gzip")
    assert answer.json()["accepted"] == 2


def test_an_empty_batch_is_taken(intake: Intake) -> None:
    assert intake.post().json() == {"accepted": 0, "duplicate": 0, "rejected": []}


def test_a_bad_event_does_not_take_its_neighbours_with_it(intake: Intake) -> None:
    answer = intake.post(wire_event(0), wire_event(1, timestamp="now"), wire_event(2))
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    [verdict] = answer.json()["rejected"]
    assert (verdict["index"], verdict["event_id"], verdict["code"]) == (1, "s-1-1", "invalid")
    assert verdict["detail"].startswith("timestamp: ")


def test_nan_in_an_array_is_refused_where_it_stands(intake: Intake) -> None:
    body = json.dumps([wire_event(0), wire_event(1, timestamp=float("nan"))]).encode()
    answer = post(intake, body, Content_Type="application/json")
    assert answer.json()["accepted"] == 1
    assert answer.json()["rejected"][0]["detail"].startswith("timestamp: ")


def test_a_line_that_is_not_json_is_refused_where_it_stands(intake: Intake) -> None:
    body = b'{"torn\n' + lines(wire_event(1))
    answer = post(intake, body, Content_Type="application/x-ndjson")
    assert answer.json()["accepted"] == 1
    assert answer.json()["rejected"][0]["index"] == 0


def test_an_event_twice_in_a_request_is_a_duplicate(intake: Intake) -> None:
    answer = intake.post(wire_event(0), wire_event(0)).json()
    assert (answer["accepted"], answer["duplicate"]) == (1, 1)


def test_a_resent_event_is_a_duplicate_once_it_is_consumed(intake: Intake) -> None:
    intake.take(wire_event(0))
    answer = intake.post(wire_event(0), wire_event(1)).json()
    assert (answer["accepted"], answer["duplicate"]) == (1, 1)


def test_a_differing_event_under_a_used_id_is_passed_on(intake: Intake) -> None:
    intake.take(wire_event(0))
    answer = intake.post(wire_event(0, payload={"x": 9}), wire_event(0, payload={"x": 8})).json()
    assert (answer["accepted"], answer["duplicate"]) == (2, 0)


def test_all_bad_is_422_with_every_verdict(intake: Intake) -> None:
    body = problem(intake.post(wire_event(0, kind="click"), 17), 422)
    assert (body["accepted"], body["duplicate"]) == (0, 0)
    rejected = body["rejected"]
    assert isinstance(rejected, list)
    assert [verdict["index"] for verdict in rejected] == [0, 1]
    assert "kind: must be one of" in str(body["errors"])


def test_without_a_key_it_is_401_before_the_body_is_read(intake: Intake) -> None:
    del intake.client.headers["Authorization"]
    answer = post(intake, b"x" * (intake.settings.max_body_bytes + 1))
    assert "Authorization: Bearer KEY" in str(problem(answer, 401)["detail"])
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_unknown_key_is_401(intake: Intake) -> None:
    answer = post(intake, b"[]", Authorization="Bearer st_" + "0" * 16 + "_" + "A" * 43)
    assert "unknown, expired or revoked" in str(problem(answer, 401)["detail"])


def test_a_key_in_x_api_key_is_read(intake: Intake) -> None:
    key = intake.client.headers.pop("Authorization").removeprefix("Bearer ")
    answer = post(intake, b"[]", X_API_Key=key, Content_Type="application/json")
    assert answer.status_code == 202


def test_a_key_with_another_role_is_403(intake: Intake) -> None:
    with write(intake.engine) as session:
        key = create_key(session, "viewer", "demo")
    answer = post(intake, b"[]", Authorization=f"Bearer {key}")
    assert "role is viewer; this needs ingest" in str(problem(answer, 403)["detail"])


@pytest.mark.parametrize("body", [b"", b"{", b'"text"', b"17", b'[{"a": 1}'])
def test_a_body_that_is_no_batch_is_400(intake: Intake, body: bytes) -> None:
    problem(post(intake, body, Content_Type="application/json"), 400)


def test_half_a_gzip_stream_is_400(intake: Intake) -> None:
    body = gzip.compress(lines(wire_event(0)))[:-4]
    answer = post(intake, body, Content_Type="application/json", Content_Encoding="gzip")
    problem(answer, 400)


def test_another_type_is_415_and_says_which_it_wants(intake: Intake) -> None:
    answer = post(intake, b"x=1", Content_Type="application/x-www-form-urlencoded")
    assert "application/x-ndjson" in str(problem(answer, 415)["detail"])


def test_another_encoding_is_415_and_says_which_it_wants(intake: Intake) -> None:
    answer = post(intake, b"[]", Content_Type="application/json", Content_Encoding="br")
    assert "gzip" in str(problem(answer, 415)["detail"])


@pytest.fixture
def narrow(engine: Engine, event_log: EmbeddedLog, settings: Settings) -> Intake:
    """An installation with small limits."""
    limits = {"max_body_bytes": 4_000, "max_event_bytes": 500, "max_batch_events": 10}
    settings = settings.model_copy(update=limits)
    with write(engine) as session:
        key = create_key(session, "ingest", "demo")
    client = TestClient(
        ingest_app(settings, engine, event_log), headers={"Authorization": f"Bearer {key}"}
    )
    return Intake(settings, engine, event_log, client)


def test_a_body_over_the_limit_is_413_and_names_the_limit(narrow: Intake) -> None:
    body = problem(post(narrow, b" " * 4_001, Content_Type="application/json"), 413)
    assert body["max_bytes"] == 4_000


def test_a_streamed_body_over_the_limit_is_413(narrow: Intake) -> None:
    answer = narrow.client.post("/v1/events", content=(b" " * 1_000 for _ in range(5)))
    problem(answer, 413)


def test_a_gzip_bomb_is_413_and_not_inflated(narrow: Intake) -> None:
    bomb = gzip.compress(b" " * 2_000_000)
    assert len(bomb) < 4_000
    answer = post(narrow, bomb, Content_Type="application/json", Content_Encoding="gzip")
    problem(answer, 413)


def test_too_many_events_are_413_and_name_the_limit(narrow: Intake) -> None:
    body = problem(narrow.post(*[wire_event(n) for n in range(11)]), 413)
    assert body["max_events"] == 10


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_one_event_that_is_too_large_is_refused_alone(narrow: Intake, content_type: str) -> None:
    events = [wire_event(0), wire_event(1, payload={"mine": "x" * 500})]
    body = orjson.dumps(events) if content_type == "application/json" else lines(*events)
    answer = post(narrow, body, Content_Type=content_type).json()
    assert answer["accepted"] == 1
    assert answer["rejected"][0]["code"] == "too_large"


def test_503_with_retry_after_when_the_log_is_unavailable(
    settings: Settings, engine: Engine
) -> None:
    with EmbeddedLog(settings.event_log_path, num_partitions=2, busy_timeout_s=0.01) as event_log:
        with write(engine) as session:
            key = create_key(session, "ingest", "demo")
        headers = {"Authorization": f"Bearer {key}"}
        client = TestClient(ingest_app(settings, engine, event_log), headers=headers)
        intake = Intake(settings, engine, event_log, client)
        other = sqlite3.connect(settings.event_log_path)
        other.execute("BEGIN IMMEDIATE")
        answer = intake.post(wire_event(0))
        assert "send the request again" in str(problem(answer, 503)["detail"])
        assert int(answer.headers["Retry-After"]) >= 1
        other.close()
        assert intake.post(wire_event(0)).json()["accepted"] == 1


def test_503_with_retry_after_when_the_database_does_not_answer(intake: Intake) -> None:
    with write(intake.engine) as session:
        session.execute(text("DROP TABLE api_keys"))
    answer = intake.post(wire_event(0))
    problem(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("depth", [300, 900, 2_000, 100_000])
def test_a_bottomless_array_is_refused(intake: Intake, depth: int) -> None:
    answer = post(intake, b"[" * depth + b"]" * depth, Content_Type="application/json")
    assert answer.status_code in {400, 422}


def test_a_route_that_does_not_exist_is_a_problem_too(intake: Intake) -> None:
    problem(intake.client.get("/v1/nothing"), 404)


def test_openapi_describes_bodies_answers_and_refusals(intake: Intake) -> None:
    operation = intake.client.get("/openapi.json").json()["paths"]["/v1/events"]["post"]
    kinds = operation["requestBody"]["content"]["application/json"]["schema"]["items"]["oneOf"]
    assert [kind["properties"]["kind"]["const"] for kind in kinds] == [
        "action",
        "reset",
        "end",
        "document",
    ]
    assert {"202", "400", "401", "403", "413", "415", "422", "503"} <= set(operation["responses"])


garbage = st.one_of(
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b" ")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*wire_event(0), "x"]), inner, max_size=7)
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode()),
)


@shares_fixtures
@given(st.lists(garbage, max_size=4), st.data())
def test_garbage_lines_never_harm_a_neighbour(
    intake: Intake, rubbish: list[bytes], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(rubbish)))
    number = data.draw(st.integers(0, 2**30))
    good = orjson.dumps(wire_event(number))
    body = b"\n".join([*rubbish[:place], good, *rubbish[place:]])
    answer = post(intake, body, Content_Type="application/x-ndjson")
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == 1
    num_lines = sum(1 for line in body.split(b"\n") if line.strip())
    assert len(answer.json()["rejected"]) == num_lines - 1


@shares_fixtures
@given(
    st.binary(max_size=200) | garbage,
    st.sampled_from(["application/json", "application/x-ndjson", "", "text/html"]),
    st.sampled_from(["identity", "gzip", "", "zstd"]),
    st.sampled_from(["/v1/events", "/v1/logs/neuralos"]),
)
def test_a_garbage_body_is_refused_and_never_a_bug(
    intake: Intake, body: bytes, content_type: str, encoding: str, path: str
) -> None:
    answer = post(intake, body, path, Content_Type=content_type, Content_Encoding=encoding)
    assert answer.status_code in {202, 400, 415, 422}
