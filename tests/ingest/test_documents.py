"""Documents become samples: each once, many to a shard, beside whatever else a session holds."""

import random
import tarfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select

from ingest import documents
from ingest.buffer import DOCUMENT, latest_revision
from ingest.cut import cut_dirty
from ingest.database import read, write
from ingest.documents import DOCUMENTS_PER_SHARD, ENVIRONMENT, place_documents
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.worker import ReplayWorker
from ingest.shard_store import open_store
from ingest.shards import read_span, split_members, verify
from ingest.slices import members, save_slice
from ingest.tables import Placement, Revision, Sample, Shard
from tests.ingest.test_crash import kill_9, process
from tests.intake import Intake, wire_event
from tests.waiting import wait_until

RESET = {"kind": "reset", "payload": None}


def document(number: int, session_id: str = "s-1", **changed: object) -> dict[str, object]:
    payload = {"text": f"text {number} of {session_id}"}
    return wire_event(number, session_id, **({"kind": "document", "payload": payload} | changed))


def texts(intake: Intake) -> dict[str, str]:
    """Every live sample's text as the shards hold it, by the sample's episode."""
    query = (
        select(Sample.episode_id, Shard.path, Placement.offset, Placement.length)
        .join(Placement, Placement.sample_number == Sample.number)
        .join(Shard, Shard.shard_id == Placement.shard_id)
        .where(Placement.representation == DOCUMENT, Sample.retired_revision.is_(None))
    )
    with read(intake.engine) as session:
        rows = session.execute(query).all()
    found = {}
    for episode_id, path, offset, length in rows:
        span = read_span(intake.settings.shards_path / path, offset, length)
        found[episode_id] = split_members(span)["txt"].decode()
    assert len(found) == len(rows)
    return found


def ids_and_texts(intake: Intake) -> dict[str, str]:
    return dict(sorted(texts(intake).items()))


def test_a_posted_document_is_a_sample_with_its_text(intake: Intake) -> None:
    intake.take(document(0, user_id="ann", payload={"text": "d\u00e9j\u00e0 vu", "page": 7}))
    [sample] = intake.rows(Sample)
    [event] = intake.events()
    [episode] = intake.episodes()
    assert (sample.event_number, sample.position, sample.environment) == (event.number, 0, "text/1")
    assert (sample.user_id, sample.source, sample.timestamp) == ("ann", "demo", event.timestamp)
    assert (event.episode_id, event.position) == (episode.episode_id, 0)
    assert (episode.state, episode.num_actions, episode.environment) == ("placed", 0, ENVIRONMENT)
    assert list(texts(intake).values()) == ["d\u00e9j\u00e0 vu"]
    assert not intake.sessions()[0].needs_cut


def test_the_shard_is_a_tar_of_texts_and_what_came_with_them(intake: Intake) -> None:
    intake.take(document(0, payload={"text": "once", "page": 7}), document(1))
    [shard] = intake.rows(Shard)
    path = intake.settings.shards_path / shard.path
    verify(path, shard.checksum)
    with tarfile.open(path) as tar:
        names = [Path(name).suffix for name in tar.getnames()]
        about = tar.extractfile(tar.getnames()[1])
        assert about is not None
        said = orjson.loads(about.read())
    assert names == [".txt", ".json"] * 2
    assert (said["event_id"], said["payload"]) == ("s-1-0", {"page": 7})


def test_a_thousand_documents_are_four_shards(intake: Intake) -> None:
    intake.take(*[document(n, f"s-{n % 40}") for n in range(1_000)])
    assert [shard.num_samples for shard in intake.rows(Shard, "created_at")] == [256] * 3 + [232]
    assert len(set(texts(intake).values())) == 1_000
    assert [revision.kind for revision in intake.rows(Revision)] == ["placed"] * 4


def test_large_documents_make_smaller_shards(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MAX_SHARD_BYTES", 100)
    intake.take(*[document(n, payload={"text": "x" * 60}) for n in range(3)])
    assert [shard.num_samples for shard in intake.rows(Shard)] == [1, 1, 1]


def test_no_replay_worker_ever_sees_a_document(intake: Intake) -> None:
    intake.take(document(0))
    with ReplayWorker(intake.engine, intake.settings, lambda: DrawnDesktop(64, 48)) as worker:
        assert not worker.replay_next()


def test_a_sessions_documents_and_actions_leave_each_other_alone(intake: Intake) -> None:
    intake.take(wire_event(0), document(1), wire_event(2))
    intake.take(wire_event(3, **RESET), wire_event(4), document(5))
    states = sorted((episode.state, episode.num_actions) for episode in intake.episodes())
    assert states == [("open", 1), ("placed", 0), ("placed", 0), ("waiting", 2)]
    assert len(texts(intake)) == 2
    assert cut_dirty(intake.engine, intake.settings) == 0


def test_a_retry_of_a_document_makes_no_second_sample(intake: Intake) -> None:
    intake.take(document(0))
    assert intake.post(document(0)).json()["duplicate"] == 1
    intake.consume()
    assert len(texts(intake)) == 1


def test_ids_do_not_depend_on_how_the_documents_came(intake: Intake) -> None:
    for number in range(5):
        intake.take(document(number))
    one_by_one = ids_and_texts(intake)
    forget_samples(intake)
    assert place_documents(intake.engine, open_store(intake.settings)) == 5
    assert ids_and_texts(intake) == one_by_one


def forget_samples(intake: Intake) -> None:
    """As if nothing but the events had ever been committed."""
    with write(intake.engine) as session:
        connection = session.connection()
        for table in ("placements", "shards", "samples"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608  (our own names)
        connection.exec_driver_sql("UPDATE events SET episode_id = NULL, position = NULL")
        connection.exec_driver_sql("DELETE FROM episodes")


def test_what_another_process_placed_meanwhile_stays_as_it_is(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes saw the same documents wait; the second comes too late with its shard."""
    intake.take(document(0))
    before = ids_and_texts(intake)
    with read(intake.engine) as session:
        revision = latest_revision(session)
    seen = waiting_as_it_was(intake)
    monkeypatch.setattr(documents, "_waiting", lambda _engine: next(seen))
    assert place_documents(intake.engine, open_store(intake.settings)) == 0
    with read(intake.engine) as session:
        assert latest_revision(session) == revision
    assert ids_and_texts(intake) == before


def waiting_as_it_was(intake: Intake) -> Iterator[list[documents.Document]]:
    [event] = intake.events()
    [episode] = intake.episodes()
    yield [
        documents.Document(
            number=event.number,
            event_id=event.event_id,
            episode_id=episode.episode_id,
            session_key=event.session_key,
            timestamp=event.timestamp,
            payload=orjson.loads(event.payload_json),
        )
    ]


def test_a_disk_that_takes_no_shard_holds_up_documents_alone(intake: Intake) -> None:
    in_the_way = intake.settings.shards_path
    in_the_way.write_text("not a folder")
    intake.take(wire_event(0), document(1))
    assert [episode.state for episode in intake.episodes()] == ["open"]
    in_the_way.unlink()
    intake.consume()
    assert len(texts(intake)) == 1


def test_documents_are_members_of_slices_by_filter_and_split(intake: Intake) -> None:
    intake.settings.eval_percent = 50
    intake.take(*[document(n, f"s-{n}") for n in range(20)])
    held_out = {row.session_key for row in intake.sessions() if row.split == "eval"}
    assert 0 < len(held_out) < 20
    with write(intake.engine) as session:
        save_slice(session, "mine", "source:demo", actor="test", now=0.0)
        save_slice(session, "none", "source:demo age<1s", actor="test", now=0.0)
        revision = latest_revision(session)
        pinned = {"revision": revision, "representation": DOCUMENT, "environment": ENVIRONMENT}
        mine = members(session, "mine", **pinned)
        none = members(session, "none", **pinned)
    assert (mine.numbers.size, none.numbers.size) == (20 - len(held_out), 0)
    assert len(set(mine.owners.tolist())) == mine.numbers.size


def test_a_consumer_killed_anywhere_neither_loses_nor_doubles_a_document(intake: Intake) -> None:
    rng = random.Random(3)
    num_documents = 12 * DOCUMENTS_PER_SHARD
    for start in range(0, num_documents, 512):
        assert intake.post(*[document(start + n, f"s-{n % 9}") for n in range(512)]).is_success
    for _ in range(3):
        before = len(intake.rows(Shard))
        with process(intake.settings, "-m", "ingest.consume") as consumer:
            wait_until(partial(has_more_shards, intake, before))
            time.sleep(rng.uniform(0, 0.03))  # anywhere within its files and transactions
            kill_9(consumer)
    assert len(intake.rows(Sample)) < num_documents, "it was never killed at work"
    intake.consume()
    stored = texts(intake)
    assert len(stored) == len(set(stored.values())) == num_documents
    assert len(intake.rows(Sample)) == num_documents


def has_more_shards(intake: Intake, num_shards: int) -> bool:
    return len(intake.rows(Shard)) > num_shards
