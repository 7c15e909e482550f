"""Fixtures that every test may use: a fresh installation with its schema made by the migrations."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import hypothesis
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from ingest.database import open_engine, upgrade, write
from ingest.keys import create_key
from ingest.log import EventLog, open_log
from ingest.settings import Settings
from tests import postgres
from tests.databases import POSTGRESQL, Database, SqliteDatabase, Stock, databases_of
from tests.intake import Intake
from tests.kafka import broker as kafka
from tests.parts import need
from tests.postgres import Cluster
from tests.s3 import S3
from tests.s3 import serving as serving_s3
from tests.serving import ingest_app

# How long an example takes is the machine's load, not a property of ours.
hypothesis.settings.register_profile("stovetop", deadline=None)
hypothesis.settings.load_profile("stovetop")

TESTS = Path(__file__).parent
TEMPLATE = "migrated"
SHARED = ("trainer/ranks", "crashes", "deploy")  # what these tests look at takes minutes to make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what is dear stand first, where one worker takes them all.

    The workers of `--dist worksteal` begin with a part of the list each, and who has nothing left
    takes from the end of another's.
    """
    homes = tuple(TESTS / name for name in SHARED)
    items.sort(key=lambda item: not any(item.path.is_relative_to(home) for home in homes))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a database runs on those that `tests/databases.py` says."""
    if "database" in metafunc.fixturenames:
        module = Path(metafunc.module.__file__).relative_to(TESTS).as_posix()
        kinds = databases_of(module, metafunc.function.__name__)
        metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file at the newest schema, migrated once; tests copy it."""
    settings = Settings(data=tmp_path_factory.mktemp("migrated"), database_url=None)
    upgrade(settings)
    return settings.data / "stovetop.db"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real PostgreSQL."""
    need(postgres.why_missing())
    cluster = Cluster()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="session")
def stock(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """Databases at the newest schema, migrated once."""
    cluster.create(TEMPLATE)
    data = tmp_path_factory.mktemp("template")
    upgrade(Settings(data=data, database_url=cluster.url(TEMPLATE)))
    with closing(Stock(cluster, TEMPLATE)) as stock:
        yield stock


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The test's own database, of the kind that it is run on."""
    if request.param == POSTGRESQL:
        with request.getfixturevalue("stock").database() as database:
            yield database
        return
    path = tmp_path / "data" / "stovetop.db"
    path.parent.mkdir()
    shutil.copy(request.getfixturevalue("migrated"), path)
    yield SqliteDatabase(path)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """A stand-in for S3."""
    with serving_s3() as s3:
        yield s3


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The stand-in, to be reached by this process and its children, with nothing at its URL."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return S3(s3_server.server, s3_server.environment)


@pytest.fixture
def settings(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A fresh installation in a temporary folder, for processes of it too; no STOVETOP_* leaks."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STOVETOP_{name.upper()}", raising=False)
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    if isinstance(database, SqliteDatabase):
        return Settings(data=data)
    monkeypatch.setenv("STOVETOP_DATABASE_URL", database.url)
    return Settings(data=data)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """The fresh installation's database."""
    engine = open_engine(settings.resolved_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def event_log(settings: Settings) -> Iterator[EventLog]:
    """The fresh installation's event log."""
    log = open_log(settings)
    yield log
    log.close()


@pytest.fixture
def intake(settings: Settings, engine: Engine, event_log: EventLog) -> Iterator[Intake]:
    """The fresh installation's way in, without a socket."""
    with write(engine) as session:
        key = create_key(session, "ingest", "demo")
    app = ingest_app(settings, engine, event_log)
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Intake(settings, engine, event_log, client)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka.Broker]:
    """A real Kafka for all tests that ask; each uses topics of its own, and leaves it running."""
    need(kafka.why_missing())
    broker = kafka.Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()
