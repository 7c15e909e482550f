"""A real PostgreSQL on this machine: the tests' own cluster, reached through a UNIX socket only.

In: the server that `make build/postgres/ready` installs. Out: a cluster in a temporary folder that
can be stopped and started again with what it had; it dies with whoever started it. Decision: its
default collation is English, so that an order which is right here is right by our own doing.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

INSTALLED = Path("/usr/lib/postgresql")
HOW_TO_INSTALL = "make build/postgres/ready"
START_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0

# What a machine that may lose its tests' data need not pay for; deadlocks show at once.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "deadlock_timeout": "100ms",
    "log_min_messages": "fatal",
}

_THROW_OUT = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = %s AND pid <> pg_backend_pid()"
)
_CONNECTED = "SELECT pid FROM pg_stat_activity WHERE datname = %s"
_USED = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
    "AND pg_relation_size(oid) > 0 AND relname <> %s"
)


def why_missing() -> str | None:
    """What keeps a cluster from being started here, with the command that brings it."""
    if _programs() is None:
        return f"there is no PostgreSQL 15 or newer: {HOW_TO_INSTALL}"
    return None


class Cluster:
    """One server with its data in a folder of its own."""

    def __init__(self, settings: Mapping[str, str] = SETTINGS) -> None:
        """Make the folder and what a server needs there."""
        self._settings = settings
        programs = _programs()
        assert programs is not None, why_missing()
        self._programs = programs
        # Not pytest's own folder: the server's user may not pass it, and a socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="stovetop-pg-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, _user())
        self._process: subprocess.Popen[bytes] | None = None
        names = ["-U", "stovetop", "-A", "trust", "-E", "UTF8", "--no-sync"]
        order = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]
        initdb = [programs / "initdb", "-D", self.folder / "data", *names, *order]
        subprocess.run([*_unprivileged(), *initdb], check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Start, and return once it takes connections."""
        options = [word for item in self._settings.items() for word in ("-c", "=".join(item))]
        server = [self._programs / "postgres", "-D", self.folder / "data", "-k", self.folder]
        with (self.folder / "postgres.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*_unprivileged(), *server, *options],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for who started it
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not self._takes_connections():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {self.folder / 'postgres.log'}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once, its connections too; what was committed stays."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        self._process.wait(STOP_WITHIN_S)
        self._process = None

    def kill(self) -> None:
        """`kill -9` of the server and of every process of its own."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, name: str) -> str:
        """Where a database is."""
        return f"postgresql+psycopg://stovetop@/{name}?host={self.folder}"

    def create(self, name: str, template: str = "template0") -> None:
        """A new database, equal to the template."""
        self._administrate("CREATE DATABASE {} TEMPLATE {}", name, template)

    def value(self, name: str, query: LiteralString) -> object:
        """The one value that a query gives."""
        with self.connection(name) as connection:
            row = connection.execute(query).fetchone()
            return row and row[0]

    def empty(self, name: str, *, keeping: str) -> None:
        """Throw everybody out of the database, and then all rows but those of one table."""
        with self.connection(name) as connection:
            connection.execute(_THROW_OUT, [name])
            used = connection.execute(_USED, [keeping]).fetchall()
            if used:
                tables = sql.SQL(", ").join(sql.Identifier(table) for (table,) in used)
                truncate = sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE")
                connection.execute(truncate.format(tables))

    def vacuumed(self, name: str) -> list[Path]:
        """A database's files once its tables are written anew and all is on the disk."""
        with self.connection(name) as connection:
            connection.execute("VACUUM FULL")
            connection.execute("CHECKPOINT")
            row = connection.execute(
                "SELECT oid FROM pg_database WHERE datname = current_database()"
            ).fetchone()
            assert row is not None
        folder = self.folder / "data" / "base" / str(row[0])
        return [path for path in folder.iterdir() if path.is_file()]

    @contextmanager
    def closed(self, name: str) -> Iterator[None]:
        """Nobody can connect to the database; who had is thrown out."""
        self._administrate("ALTER DATABASE {} ALLOW_CONNECTIONS false", name)
        with self.connection() as connection:
            connection.execute(_THROW_OUT, [name])
        yield
        self._administrate("ALTER DATABASE {} ALLOW_CONNECTIONS true", name)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Whoever is connected to the database is neither answered nor thrown out."""
        with self.connection() as connection:
            found = connection.execute(_CONNECTED, [name]).fetchall()
        for (pid,) in found:
            os.kill(pid, signal.SIGSTOP)
        yield
        for (pid,) in found:
            os.kill(pid, signal.SIGCONT)

    def connection(self, name: str = "postgres") -> psycopg.Connection:
        """A connection of one's own, each statement a transaction."""
        return psycopg.connect(host=str(self.folder), user="stovetop", dbname=name, autocommit=True)

    def _administrate(self, statement: str, *names: str) -> None:
        with self.connection() as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _takes_connections(self) -> bool:
        try:
            self.connection().close()
        except psycopg.OperationalError:
            return False
        return True


def _programs() -> Path | None:
    """The newest server's folder of programs."""
    found = {int(path.parts[-3]): path.parent for path in INSTALLED.glob("[0-9]*/bin/postgres")}
    newest = max(found, default=0)
    return found[newest] if newest >= 15 else None


def _user() -> str:
    return "postgres"  # the package makes it


def _unprivileged() -> list[str]:
    """What a server is started by: it refuses root, and ends with the process that started it."""
    as_user = [f"--reuid={_user()}", f"--regid={_user()}", "--clear-groups"]
    return ["setpriv", "--pdeathsig", "KILL", *(as_user if os.geteuid() == 0 else [])]
