"""Fixtures of the tests of data in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from ingest.database import write
from ingest.keys import create_key
from ingest.log import EventLog, open_log
from ingest.settings import Settings
from tests.intake import Intake
from tests.serving import Ingesting, ingest_app, ingesting
from tests.shipping import append, log_lines


@pytest.fixture
def event_log(settings: Settings) -> Iterator[EventLog]:
    """The fresh installation's event log."""
    log = open_log(settings)
    yield log
    log.close()


@pytest.fixture
def server(settings: Settings, engine: Engine, event_log: EventLog) -> Iterator[Ingesting]:
    """The fresh installation's endpoint, on loopback."""
    with ingesting(settings, engine, event_log) as served:
        yield served


@pytest.fixture
def intake(settings: Settings, engine: Engine, event_log: EventLog) -> Iterator[Intake]:
    """The fresh installation's way in, without a socket."""
    with write(engine) as session:
        key = create_key(session, "ingest", "demo")
    app = ingest_app(settings, engine, event_log)
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Intake(settings, engine, event_log, client)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of logs, empty so far."""
    path = tmp_path / "interaction_logs"
    path.mkdir()
    return path


@pytest.fixture
def log_file(folder: Path) -> Path:
    """A log of five lines."""
    return append(folder / "session_a.jsonl", log_lines("a", 0, 5))


@pytest.fixture
def cursor_path(tmp_path: Path) -> Path:
    """Where a shipper keeps its cursor; nothing is there yet."""
    return tmp_path / "state" / "cursor.json"
