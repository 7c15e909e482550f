"""The line at a glance: what is posted shows up in the counts, stage by stage."""

import time

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from ingest.buffer import new_revision, retire
from ingest.database import write
from ingest.documents import place_documents
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.tables import Episode
from tests.control_api.conftest import AsRole
from tests.control_api.rows import make_run
from tests.factories import make_documents, make_samples, make_session


def test_a_posted_event_waits_in_the_log_until_it_is_consumed(
    viewer: TestClient, as_role: AsRole
) -> None:
    event = {
        "event_id": "e1",
        "session_id": "s1",
        "sequence": 0,
        "timestamp": time.time(),
        "kind": "end",
    }
    assert viewer.get("/v1/stages").json()["log_waiting"] == 0
    assert as_role("ingest").post("/v1/events", json=[event]).status_code == 202
    stages = viewer.get("/v1/stages").json()
    assert (stages["log_waiting"], stages["events"]) == (1, 0)


def test_a_log_that_is_away_leaves_the_other_stages_counted(
    viewer: TestClient, app: FastAPI, engine: Engine
) -> None:
    with write(engine) as session:
        make_samples(session)
    app.state.event_log.close()
    stages = viewer.get("/v1/stages").json()
    assert stages["log_waiting"] is None
    assert stages["samples"] == 3


def test_each_stage_is_counted_by_state(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_samples(session, representations=("frame", "latent:a"))
        make_samples(session, owner=make_session(session, split="eval"))
        make_run(session)
    stages = viewer.get("/v1/stages").json()
    assert stages["events"] == 6
    assert stages["sessions"] == {"eval": 1, "train": 1}
    assert stages["episodes"] == {"replayed": 2}
    assert (stages["samples"], stages["trainable"]) == (6, 3)
    assert stages["shards"] == {"frame": 2, "latent:a": 1}
    assert stages["latents"] == {"latent:a": 3}
    assert stages["runs"] == {"running": 1}


def test_retired_samples_count_nowhere(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_samples(session, representations=("frame", "latent:a"))
        gone = session.scalars(select(Episode.episode_id)).all()
        make_samples(session, representations=("frame", "latent:a"))
        retire(session, gone, new_revision(session, "superseded", added=0, retired=3, now=1.0))
    stages = viewer.get("/v1/stages").json()
    assert (stages["samples"], stages["latents"]) == (3, {"latent:a": 3})


def test_documents_are_samples_that_wait_for_no_latents(
    viewer: TestClient, engine: Engine, settings: Settings
) -> None:
    with write(engine) as session:
        make_documents(session, make_session(session), ["one", "two"])
    place_documents(engine, open_store(settings))
    stages = viewer.get("/v1/stages").json()
    assert (stages["samples"], stages["trainable"], stages["latents"]) == (2, 0, {})
    assert (stages["episodes"], stages["shards"]) == ({"placed": 2}, {"document": 1})
