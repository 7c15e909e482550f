"""The project's tour: one shipped line goes in, a running model learns from it.

Read it from top to bottom to see every stage of Stovetop once, each as production uses it, with its
embedded setting and in this one process: endpoint, event log, consumer, desktop, shards, encoder,
mix, trainer, curve.
"""

import json
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from control_api.app import create_app
from control_api.demo.use import bundled_logs
from ingest.consume import Consumer
from ingest.database import read, write
from ingest.keys import create_key
from ingest.log import open_log
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.worker import ReplayWorker
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.ship import ship
from ingest.tables import Episode, EventRow, Placement, Sample
from tests.serving import serving
from trainer.encode import EncodeWorker
from trainer.mix.cohorts import unpack_numbers
from trainer.neuralos.encoder import load
from trainer.neuralos.family import NeuralOSFamily
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train
from trainer.tables import Checkpoint, Metric, Step


def write_one_line(log_file: Path) -> Path:
    """One line of a deployed NeuralOS's log, somebody moved the pointer, and the session's end."""
    line = bundled_logs()[0][0].read_bytes().splitlines(keepends=True)[0]
    end = json.dumps(json.loads(line) | {"is_eos": True, "inputs": None}) + "\n"
    log_file.write_bytes(line + end.encode())
    return log_file


@pytest.fixture(params=["folder", "s3"])
def settings(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """With shards in a folder, and in S3-style storage."""
    if request.param == "folder":
        return settings
    monkeypatch.setenv("STOVETOP_SHARDS", request.getfixturevalue("s3").url)
    return Settings(data=settings.data)


@pytest.mark.timeout(300)
def test_one_shipped_line_reaches_one_optimizer_step_and_one_point_of_the_curve(
    settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    log_file = write_one_line(tmp_path / "session_1.jsonl")

    # receive: the shipper sends it with a key; 202 says that the event log has it.
    with write(engine) as session:
        ingest_key = create_key(session, "ingest", "production")
        operator_key = create_key(session, "operator", "me")
    with serving(create_app(settings)) as url:
        shipped = ship([log_file], url, ingest_key, cursor_path=tmp_path / "cursor.json")
    assert (shipped.sent, shipped.duplicate, shipped.rejected, shipped.torn) == (2, 0, 0, 0)

    # consume and cut: the event is a row, and it is an episode's only action.
    event_log = open_log(settings)
    with Consumer(engine, event_log, settings) as consumer:
        consumer.drain()
    event_log.close()
    with read(engine) as session:
        event = session.scalars(select(EventRow).where(EventRow.kind == "action")).one()
        episode = session.scalars(select(Episode)).one()
    assert (event.episode_id, event.position) == (episode.episode_id, 0)
    assert (episode.num_actions, episode.state) == (1, "waiting")

    # replay: the desktop shows what should have been on the screen; the frame is a sample.
    with ReplayWorker(engine, settings, lambda: DrawnDesktop(128, 96)) as replay:
        assert replay.replay_next()
    with read(engine) as session:
        sample = session.scalars(select(Sample)).one()
    assert sample.event_number == event.number

    # encode: the frame's latent, in a shard of its own, at a place that SQL knows.
    encoder = load()
    EncodeWorker(engine, open_store(settings), encoder).encode_some(threading.Event())
    with read(engine) as session:
        places = set(session.scalars(select(Placement.representation)))
    assert places == {"frame", f"latent:{encoder.hash}"}

    # curate: a slice of the buffer and a mix that draws from nothing else.
    headers = {"Authorization": f"Bearer {operator_key}"}
    with TestClient(create_app(settings), "http://127.0.0.1", headers=headers) as api:
        assert api.post("/v1/slices", json={"name": "all", "filter": ""}).status_code == 201
        mix = {"name": "only", "shares": {"all": 1.0}}
        assert api.post("/v1/mixes", json=mix).status_code == 201

        # train: the shipped model takes one step on it.
        family = NeuralOSFamily(None)
        run = find_or_make_run(engine, "tour", RunOptions(max_steps=1, mix="only"), family)
        assert train(Workplace(engine, settings, threading.Event()), run, family) == "finished"
        with read(engine) as session:
            step = session.scalars(select(Step)).one()
            loss = session.scalars(select(Metric).where(Metric.name == "loss")).one()
            checkpoints = session.scalars(select(Checkpoint).order_by(Checkpoint.step)).all()
        assert set(unpack_numbers(step.samples).tolist()) == {sample.number}
        assert (loss.step, [checkpoint.step for checkpoint in checkpoints]) == (1, [0, 1])

        # watch: the page's curve has its first point.
        [curve] = api.get("/v1/runs/tour/metrics", params={"name": "loss"}).json()["series"]
        assert [(point["step"], point["last"]) for point in curve["points"]] == [(1, loss.value)]
