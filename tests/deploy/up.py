"""`make up-production`: compose.yaml's services on this machine, on a real Kafka and PostgreSQL.

In: what the Makefile installs; S3-style storage is moto's server. Out: an address that signs a
browser in, and the way to end it. What they stored is gone at the end.
"""

import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.process import begin_process
from ingest.settings import Settings
from tests import postgres, s3
from tests.deploy import compose
from tests.deploy.machine import Machine, Places, answers, until
from tests.kafka import broker as kafka

PORT = 7420


def main() -> None:
    """Run everything until Ctrl-C."""
    for missing in (kafka.why_missing(), postgres.why_missing()):
        if missing is not None:
            sys.exit(missing)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # each request to moto's server
    stop = begin_process(Settings())
    folder = Path(tempfile.mkdtemp(prefix="stovetop-production-"))
    try:
        with _parts(folder) as places:
            _run(Machine(places), places, stop)
    finally:
        shutil.rmtree(folder)


def _run(machine: Machine, places: Places, stop: threading.Event) -> None:
    secrets = {"STOVETOP_SECRETS": str(places.secrets)}
    services = {each.name: each for each in compose.services_of_ours(compose.read(secrets))}
    try:
        [migration] = machine.start(services["migrate"])
        if migration.process.wait() != 0:
            sys.exit(f"the schema could not be made: {migration.log_path.read_text()}")
        names = [name for name in services if name not in ("migrate", "trainer")]
        for name in names:
            machine.start(services[name])
        url = f"http://127.0.0.1:{places.port}"
        until(lambda: stop.is_set() or answers(url))
        sign_in = ["stovetop", "sign-in", "--role", "operator", "--url", url]
        _say(f"Stovetop is up: {machine.run(services['api'], sign_in).strip()}")
        _say(f"  Kafka    {places.kafka}")
        _say(f"  storage  {places.storage_url}")
        _say(f"  logs     {places.folder / 'logs'}")
        database = f"STOVETOP_DATABASE_URL='{places.database_url}'"
        _say(f"  a key    {database} stovetop keys create --role ingest")
        _say("Ctrl-C ends it, and what it stored is gone.")
        _watch(machine, stop)
    finally:
        machine.stop()


def _watch(machine: Machine, stop: threading.Event) -> None:
    """Say once of each process that has failed; Docker would start it again."""
    told: set[str] = set()
    while not stop.wait(1.0):
        for each in machine.failed():
            if each.name not in told:
                told.add(each.name)
                _say(f"{each.name} ended with {each.process.returncode}: {each.log_path}")


@contextmanager
def _parts(folder: Path) -> Iterator[Places]:
    """The real parts, made for this once."""
    broker, cluster = kafka.Broker(folder / "kafka"), postgres.Cluster()
    try:
        broker.start()
        cluster.start()
        with s3.serving() as storage:
            yield Places.of(
                folder,
                broker=broker,
                cluster=cluster,
                database="stovetop",
                storage=storage,
                port=PORT,
            )
    finally:
        broker.stop()
        cluster.remove()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
