"""Fixtures that every test may use: a fresh installation with its schema made by the migrations."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import Engine

from ingest.database import open_engine, upgrade
from ingest.settings import Settings
from tests.kafka.broker import Broker, why_missing

# How long an example takes is the machine's load, not a property of ours.
hypothesis.settings.register_profile("stovetop", deadline=None)
hypothesis.settings.load_profile("stovetop")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the newest schema, migrated once; tests copy it."""
    settings = Settings(data=tmp_path_factory.mktemp("migrated"))
    upgrade(settings)
    return settings.data / "stovetop.db"


@pytest.fixture
def settings(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A fresh installation of its own in a temporary folder; no STOVETOP_* leaks in."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STOVETOP_{name.upper()}", raising=False)
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(migrated, data / "stovetop.db")
    return Settings(data=data)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """The fresh installation's database."""
    engine = open_engine(settings.resolved_database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka for all tests that ask; each uses topics of its own, and leaves it running."""
    if missing := why_missing():
        assert not os.environ.get("CI"), missing
        pytest.skip(missing)
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()
