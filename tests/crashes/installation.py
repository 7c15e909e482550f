"""A real installation, and the two sizes that it comes in: its folder, servers, lines and clock.

`embedded` has everything in its folder. `production` has a PostgreSQL and a Kafka of its own that
are as durable as in earnest against `kill -9`, and a line to the database that can be cut. Either
is reached through a line that can be cut, and has its folder on a small disk where root may
mount one.
"""

import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine

from ingest.database import open_engine, upgrade, write
from ingest.keys import create_key
from ingest.settings import Settings
from ingest.slices import save_mix, save_slice
from tests.crashes.ledger import SOURCE
from tests.crashes.proxy import Proxy
from tests.crashes.troubles import Clock, Disk
from tests.crashes.zygote import CLOCK
from tests.kafka.broker import Broker
from tests.ports import unused_port
from tests.postgres import SETTINGS, Cluster

EMBEDDED, PRODUCTION = "embedded", "production"
DISK_MB = 256
LEASE_S = 2.0
MIX = "texts"

# What of the tests' usual cluster a `kill -9` would lose or tear.
DURABLE = {"synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class Servers:
    """What `production` needs: both may be killed."""

    cluster: Cluster
    broker: Broker


@dataclass(frozen=True)
class Installation:
    """One of either size; `environment` is what its processes get, `settings` what a test uses.

    `url` is where production sends; a test's own `engine` goes past the lines.
    """

    size: str
    settings: Settings
    environment: dict[str, str]
    engine: Engine
    key: str
    url: str
    lines: tuple[Proxy, ...]
    disk: Disk | None
    clock: Clock
    servers: Servers | None

    @property
    def log(self) -> str:
        """Which event log it has."""
        return "embedded" if self.servers is None else "kafka"


def install(stack: ExitStack, servers: Servers | None = None) -> Installation:
    """A fresh installation, at the newest schema, gone with the stack; its processes are not it."""
    folder = Path(tempfile.mkdtemp(prefix="stovetop-crashes-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    disk = None
    with suppress(PermissionError):
        disk = Disk(folder / "disk", DISK_MB)
        stack.callback(disk.close)
    data = (disk.folder if disk else folder) / "data"
    clock = Clock(folder / "clock")
    api = unused_port()
    front = Proxy(_listener(), lambda: socket.create_connection(("127.0.0.1", api)))
    stack.callback(front.close)
    lines = [front]
    environment = {
        CLOCK: str(clock.path),
        "STOVETOP_DATA": str(data),
        "STOVETOP_PORT": str(api),
        "STOVETOP_LEASE_S": str(LEASE_S),
        "STOVETOP_OPEN_TAIL_S": "0.5",
        "STOVETOP_LOG_GRACE_S": "0",
        "STOVETOP_ADOPT_EVERY_S": "0.5",
    }
    database_url = None
    if servers is not None:
        name = f"crashes_{uuid4().hex[:8]}"
        servers.cluster.create(name)
        database_url = servers.cluster.url(name)
        line, environment["STOVETOP_DATABASE_URL"] = _line_to_database(stack, servers, name)
        lines.append(line)
        environment["STOVETOP_KAFKA"] = servers.broker.address
        environment["STOVETOP_KAFKA_TOPIC"] = name
    settings = _settings(data, database_url, environment)
    upgrade(settings)
    engine = open_engine(settings.resolved_database_url)
    stack.callback(engine.dispose)
    with write(engine) as session:
        key = create_key(session, "ingest", SOURCE)
        save_slice(session, MIX, "", actor="test", now=0.0)
        save_mix(session, MIX, {MIX: 1.0}, actor="test", now=0.0)
    return Installation(
        size=EMBEDDED if servers is None else PRODUCTION,
        settings=settings,
        environment=environment,
        engine=engine,
        key=key,
        url=f"http://127.0.0.1:{front.port}",
        lines=tuple(lines),
        disk=disk,
        clock=clock,
        servers=servers,
    )


def _settings(data: Path, database_url: str | None, environment: dict[str, str]) -> Settings:
    """As the processes read them, but for the line to the database."""
    fields = {
        name: environment[variable]
        for name in Settings.model_fields
        if (variable := f"STOVETOP_{name.upper()}") in environment
    }
    return Settings(**fields | {"data": data, "database_url": database_url})


def _line_to_database(stack: ExitStack, servers: Servers, name: str) -> tuple[Proxy, str]:
    """A line beside PostgreSQL's own socket, and the URL that leads through it."""
    folder = Path(tempfile.mkdtemp(prefix="stovetop-line-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / ".s.PGSQL.5432"))
    listener.listen()
    line = Proxy(listener, _to_socket(servers.cluster.folder / ".s.PGSQL.5432"))
    stack.callback(line.close)
    return line, f"postgresql://stovetop@/{name}?host={folder}"


def _to_socket(path: Path) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        return connection

    return connect


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def production_servers(stack: ExitStack) -> Servers:
    """A PostgreSQL and a Kafka of their own, gone with the stack."""
    cluster = Cluster({**SETTINGS, **DURABLE})
    cluster.start()
    stack.callback(cluster.remove)
    folder = Path(tempfile.mkdtemp(prefix="stovetop-kafka-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    broker = Broker(folder)
    broker.start()
    stack.callback(broker.kill)
    return Servers(cluster, broker)
