"""Fixtures of the tests of data in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ingest.log import EventLog
from ingest.settings import Settings
from tests.serving import Ingesting, ingesting
from tests.shipping import append, log_lines


@pytest.fixture
def server(settings: Settings, engine: Engine, event_log: EventLog) -> Iterator[Ingesting]:
    """The fresh installation's endpoint, on loopback."""
    with ingesting(settings, engine, event_log) as served:
        yield served


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
