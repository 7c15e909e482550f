"""This machine in the place of containers: compose.yaml's own commands as plain processes.

In: the services of ours, and where Kafka, PostgreSQL and S3-style storage really are. Out: their
processes, each with its command as it is written and its environment but for what has another place
here. Guaranteed: they die with whoever started them.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

from control_api.remote import Remote, RemoteError
from tests.deploy.compose import ROOT, Service
from tests.kafka.broker import Broker
from tests.postgres import Cluster
from tests.s3 import S3
from tests.waiting import wait_until

_PORT = "7420"


@dataclass(frozen=True)
class Places:
    """Where here is what compose.yaml has under its own names; all is written in `folder`."""

    folder: Path
    secrets: Path
    kafka: str
    database_url: str
    storage_url: str
    port: int

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        broker: Broker,
        cluster: Cluster,
        database: str,
        storage: S3,
        port: int,
    ) -> Self:
        """Of real parts that run; makes the database and the passwords."""
        cluster.create(database)
        return cls(
            folder=folder / "stovetop",
            secrets=_make_secrets(folder / "secrets"),
            kafka=broker.address,
            database_url=cluster.url(database),
            storage_url=storage.environment["AWS_ENDPOINT_URL"],
            port=port,
        )


class Machine:
    """Processes of services, by name."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._numbers = count(1)
        self._running: list[Running] = []
        for name in ("data", "logs", "tmp"):
            (places.folder / name).mkdir(parents=True)

    def start(self, service: Service) -> list["Running"]:
        """Start as many processes of a service as compose.yaml says."""
        started = [self._start(service) for _ in range(service.replicas)]
        self._running += started
        return started

    def run(self, service: Service, command: list[str]) -> str:
        """What a command says in a service's surroundings, as `docker compose exec` gives them.

        Raises CalledProcessError.
        """
        environment = self._environment(service, "exec")
        return subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def failed(self) -> list["Running"]:
        """Those that have failed."""
        return [running for running in self._running if running.process.poll()]

    def stop(self) -> None:
        """Ask all to end, and wait for each as long as compose.yaml gives it."""
        for running in self._running:
            running.process.terminate()
        for running in self._running:
            running.end()

    def kill(self) -> None:
        """End what is left at once."""
        for running in self._running:
            running.process.kill()
            running.process.wait()

    def _start(self, service: Service) -> "Running":
        name = f"{service.name}-{next(self._numbers)}"
        environment = self._environment(service, name)
        log_path = self._places.folder / "logs" / f"{name}.log"
        with log_path.open("wb") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *service.command],
                env=environment,
                cwd="/",  # nothing is found by where a process happens to be
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for who started it
            )
        health = [word.replace(f":{_PORT}/", f":{self._places.port}/") for word in service.health]
        return Running(name, service, process, log_path, health, environment)

    def _environment(self, service: Service, name: str) -> dict[str, str]:
        here = self._here(name)
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "HOME": "/nonexistent",
            "TMPDIR": str(self._places.folder / "tmp"),
            "HF_HUB_OFFLINE": "1",
            **{key: here.get(key, value) for key, value in service.environment.items()},
            "STOVETOP_PORT": str(self._places.port),
        }

    def _here(self, name: str) -> Mapping[str, str]:
        places = self._places
        return {
            "STOVETOP_DATA": str(places.folder / "data"),
            "STOVETOP_SECRETS": str(places.secrets),
            "STOVETOP_PULSE": str(places.folder / "tmp" / f"{name}.pulse"),
            "STOVETOP_DATABASE_URL": places.database_url,
            "STOVETOP_KAFKA": places.kafka,
            "STOVETOP_HOST": "127.0.0.1",
            "AWS_ENDPOINT_URL": places.storage_url,
            "AWS_SHARED_CREDENTIALS_FILE": str(places.secrets / "s3_credentials"),
        }


@dataclass(frozen=True)
class Running:
    """One process of a service."""

    name: str
    service: Service
    process: "subprocess.Popen[bytes]"
    log_path: Path
    health: list[str]
    environment: dict[str, str]

    def is_healthy(self) -> bool:
        """What compose.yaml's own health check says of it."""
        kind, *command = self.health
        assert kind == "CMD"
        looked = subprocess.run(
            command, env=self.environment, cwd="/", check=False, stderr=subprocess.DEVNULL
        )
        return looked.returncode == 0

    def end(self) -> int:
        """Wait for its end after SIGTERM, as long as it is given; the exit code, -9 if too long."""
        try:
            return self.process.wait(self.service.stop_within_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            return self.process.wait()


def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so of whole processes; fail when it takes too long."""
    wait_until(is_so, within_s=120.0, look_every_s=0.2)


def answers(url: str) -> bool:
    """Whether a server there is ready."""
    try:
        Remote(url, "").get("/readyz")
    except RemoteError:
        return False
    return True


def _make_secrets(folder: Path) -> Path:
    """The passwords, made by the command that compose.yaml asks for."""
    subprocess.run(["make", "-s", "secrets", f"SECRETS={folder}"], cwd=ROOT, check=True)
    return folder
