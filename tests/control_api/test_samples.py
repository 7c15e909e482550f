"""The buffer over HTTP: samples by filter, their frames, sessions, episodes, dead letters."""

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import Engine, select

from ingest.buffer import FRAME, add_shard, latest_revision, new_revision, retire
from ingest.database import write
from ingest.ids import content_id
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.shards import ShardWriter
from ingest.tables import DeadLetter, Episode, Sample
from tests.factories import make_samples, make_session


def numbers(client: TestClient, filter_text: str) -> list[int]:
    answer = client.get("/v1/samples", params={"filter": filter_text})
    return [item["number"] for item in answer.json()["items"]]


def test_samples_are_found_by_the_filter_language(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        browsing = make_samples(session, tasks=("open_browser",))
        make_samples(session, tasks=("scroll",))
    assert numbers(viewer, "task:open_browser") == sorted(browsing, reverse=True)
    assert numbers(viewer, "-task:open_browser,scroll") == []


def test_a_wrong_filter_is_refused_with_the_word_and_the_fix(viewer: TestClient) -> None:
    answer = viewer.get("/v1/samples", params={"filter": "tsk:open_browser"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "filter"
    assert "tsk" in answer.json()["detail"]


def test_a_retired_sample_is_not_listed_but_still_found(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        number = make_samples(session, changes=[()])[0]
        episode_id = session.scalars(select(Episode.episode_id)).one()
        revision = new_revision(session, "superseded", added=0, retired=1, now=1.0)
        retire(session, [episode_id], revision)
    assert numbers(viewer, "") == []
    assert viewer.get(f"/v1/samples/{number}").json()["retired_revision"] == revision


def png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def framed(engine: Engine, settings: Settings) -> tuple[list[int], list[bytes]]:
    """Samples whose frames lie in a real shard: their numbers and pictures."""
    pictures = [png((shade, 0, 0)) for shade in (10, 20, 30)]
    with ShardWriter(open_store(settings), "frames") as writer:
        members = [[(f"{i}.png", data), (f"{i}.json", b"{}")] for i, data in enumerate(pictures)]
        spans = [writer.add(member) for member in members]
        shard = writer.publish()
    with write(engine) as session:
        found = make_samples(session, changes=[()] * 3, representations=())
        placed = list(zip(found, spans, strict=True))
        revision = latest_revision(session)
        add_shard(session, shard, FRAME, placed=placed, revision=revision, now=1.0)
    return list(found), pictures


def test_a_samples_frame_is_its_own_picture(
    viewer: TestClient, framed: tuple[list[int], list[bytes]]
) -> None:
    for number, picture in zip(*framed, strict=True):
        answer = viewer.get(f"/v1/samples/{number}/frame.png")
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.content == picture


def test_a_frame_whose_shard_is_gone_is_not_found(
    viewer: TestClient, framed: tuple[list[int], list[bytes]], settings: Settings
) -> None:
    for path in settings.shards_path.rglob("*.tar"):
        path.unlink()
    answer = viewer.get(f"/v1/samples/{framed[0][0]}/frame.png")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_frames_in_a_store_that_is_away_may_be_asked_for_again(
    viewer: TestClient, framed: tuple[list[int], list[bytes]], settings: Settings
) -> None:
    mounted, away = settings.shards_path, settings.data / "away"
    path = f"/v1/samples/{framed[0][0]}/frame.png"
    mounted.rename(away)
    answer = viewer.get(path)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    away.rename(mounted)
    assert viewer.get(path).content == framed[1][0]


@pytest.mark.parametrize("path", ["/v1/samples/99", "/v1/samples/99/frame.png"])
def test_an_unknown_sample_is_not_found(viewer: TestClient, path: str) -> None:
    assert viewer.get(path).status_code == 404


@pytest.mark.parametrize("number", ["0", "-1", "x", str(2**63)])
def test_what_can_be_no_number_is_refused(viewer: TestClient, number: str) -> None:
    assert viewer.get(f"/v1/samples/{number}").status_code == 422


def test_sessions_and_episodes_are_found_by_what_they_are(
    viewer: TestClient, engine: Engine
) -> None:
    with write(engine) as session:
        held_out = make_session(session, session_id="held-out", split="eval")
        make_samples(session, owner=held_out, tasks=("scroll",))
        make_samples(session, owner=make_session(session, source="elsewhere"))
    answer = viewer.get("/v1/sessions", params={"split": "eval"}).json()
    assert [item["session_id"] for item in answer["items"]] == ["held-out"]
    assert viewer.get("/v1/sessions", params={"source": "elsewhere"}).json()["total"] == 1
    answer = viewer.get("/v1/episodes", params={"session_key": held_out.session_key}).json()
    assert [(item["state"], item["tasks"]) for item in answer["items"]] == [
        ("replayed", ["scroll"])
    ]
    assert viewer.get("/v1/episodes", params={"state": "parked"}).json()["total"] == 0


def test_a_dead_letter_keeps_its_reason_and_its_bytes(viewer: TestClient, engine: Engine) -> None:
    original = b'{"x": \xff\x00<script>'
    with write(engine) as session:
        session.add(
            DeadLetter(
                dead_letter_id=content_id(original),
                source="production",
                code="torn",
                detail="line: its writing was cut off",
                original=original,
                received_at=1.0,
            )
        )
    (letter,) = viewer.get("/v1/deadletters", params={"code": "torn"}).json()["items"]
    assert (letter["code"], letter["num_bytes"]) == ("torn", len(original))
    answer = viewer.get(f"/v1/deadletters/{letter['dead_letter_id']}/original")
    assert answer.content == original
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert viewer.get("/v1/deadletters", params={"code": "conflict"}).json()["total"] == 0
    assert viewer.get("/v1/deadletters/nobody/original").status_code == 404


def test_every_sample_says_where_it_comes_from(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        number = make_samples(session, changes=[("window_opened:browser",)])[0]
        row = session.get_one(Sample, number)
    shown = viewer.get(f"/v1/samples/{number}").json()
    assert shown["changes"] == ["window_opened:browser"]
    assert (shown["episode_id"], shown["event_number"]) == (row.episode_id, row.event_number)
