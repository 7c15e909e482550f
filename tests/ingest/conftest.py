"""Fixtures of the tests of data in."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from ingest.log import EventLog, open_log
from ingest.settings import Settings
from tests.serving import Ingesting, ingesting


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
