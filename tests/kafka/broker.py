"""A real Apache Kafka on this machine, in one process: the tests' own broker, and `make kafka`.

In: the jars that `make build/kafka/ready` brings. Out: a broker on loopback that can be stopped,
killed and started again with what it had; it dies with whoever started it. Decision: the defaults
of a real broker wherever a test can afford them; what differs is in `PROPERTIES`, with the reason.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.ports import unused_port

JARS = Path(__file__).parents[2] / "build" / "kafka" / "libs"
HOW_TO_INSTALL = "make build/kafka/ready"
START_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
log.dirs={folder}/data
# One broker holds every copy.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
# Topics are made by who knows their limits.
auto.create.topics.enable=false
# The first member of a group need not wait 3 s for others.
group.initial.rebalance.delay.ms=0
# Retention is looked at each second, not each 5 minutes.
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
"""


def why_missing() -> str | None:
    """What keeps a broker from being started here, with the command that brings it."""
    for needed in ("java", "setpriv"):
        if shutil.which(needed) is None:
            return f"there is no {needed}: {HOW_TO_INSTALL}"
    if not any(JARS.glob("kafka_*.jar")):
        return f"Kafka's jars are not in {JARS}: {HOW_TO_INSTALL}"
    return None


class Broker:
    """One broker with its data in a folder, reached at `address`."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Format the folder, unless a broker has used it before."""
        self._folder = folder
        self._port = port or unused_port()
        self.address = f"127.0.0.1:{self._port}"
        self._properties = folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        self._format()

    def start(self) -> None:
        """Start, and return once it takes connections."""
        with (self._folder / "kafka.log").open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *_java("kafka.Kafka", str(self._properties))],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for who started it
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not self._takes_connections():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Kafka did not start: {self._folder / 'kafka.log'}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Let it end in order, as an administrator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It neither answers nor hangs up, as behind a cut line, until it is thawed."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def wait(self) -> None:
        """Wait until it ends by itself."""
        if self._process is not None:
            self._process.wait()

    def peak_mb(self) -> int:
        """The most memory that it has held so far."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._signal(number)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _takes_connections(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False

    def _format(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        ports = {"port": self._port, "controller_port": unused_port()}
        self._properties.write_text(PROPERTIES.format(folder=self._folder.absolute(), **ports))
        cluster = ["-t", "stovetopStovetopStoveA", "--ignore-formatted"]
        subprocess.run(
            _java("kafka.tools.StorageTool", "format", *cluster, "-c", str(self._properties)),
            check=True,
            stdout=subprocess.DEVNULL,
        )


def main() -> None:
    """`make kafka`: a broker until Ctrl-C; what it took is there the next time."""
    broker = Broker(JARS.parent / "broker", port=9092)
    broker.start()
    sys.stdout.write(
        f"Kafka at {broker.address}, until Ctrl-C. Beside it:\n\n"
        f"    STOVETOP_KAFKA={broker.address} stovetop up --data DIR\n\n"
    )
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        broker.wait()
    broker.stop()


def _java(main_class: str, *arguments: str) -> list[str]:
    memory = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return ["java", *memory, "-cp", f"{JARS}{os.sep}*", main_class, *arguments]


if __name__ == "__main__":
    main()
