"""PostgreSQL's lookout: LISTEN wakes its listener, a prepared statement tells what is so.

A notification comes when the server gets to it, so none having come says nothing; therefore `sees`
asks the statement, one round trip, and gives up after 50 ms. Where that fails the connections are
dropped, and only the listener makes new ones: meanwhile `sees` says at once that the database is
away, so an outage costs whoever asks 50 ms in all. The listener also looks each quarter second, for
whoever is between us and the server may keep notifications to itself (a pooler does).
"""

import select
import time

import psycopg
from psycopg import pq, sql
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ingest.database.lookout import Unreachable

LOOK_EVERY_S = 0.25
ANSWER_WITHIN_S = 0.05
_NAME = b"look"


class ListeningLookout:
    """Two connections: one that waits for notifications, and one that is asked."""

    def __init__(self, engine: Engine, statement: str, channel: str, word: str) -> None:
        self._engine = engine
        self._statement = statement
        self._channel = channel
        self._word = word
        self._listening: psycopg.Connection | None = None
        self._asked: psycopg.Connection | None = None
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def sees(self, *parameters: str | int) -> bool:
        """See `Lookout`."""
        if self._asked is None:
            raise Unreachable("no connection to the database")
        try:
            return _gives_row(self._asked.pgconn, [str(each).encode() for each in parameters])
        except (psycopg.Error, OSError) as error:
            self._asked.close()
            self._asked = None
            raise Unreachable(str(error)) from error

    def wait(self) -> None:
        """See `Lookout`."""
        try:
            self._connect()
            self._wait_for_word()
        except (psycopg.Error, SQLAlchemyError):  # that it is away shows to who asks
            self._stop_listening()
            time.sleep(LOOK_EVERY_S)

    def _wait_for_word(self) -> None:
        assert self._listening is not None
        for notify in self._listening.notifies(timeout=LOOK_EVERY_S):
            if notify.payload == self._word:
                break

    def _connect(self) -> None:
        """Make what is not there; never close what another thread may be asking."""
        if self._listening is None:
            self._listening = _own_connection(self._engine)
            self._listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        if self._asked is None:
            self._asked = _prepared(_own_connection(self._engine), self._statement)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.close()
        self._listening = None

    def close(self) -> None:
        """See `Lookout`."""
        self._stop_listening()
        if self._asked is not None:
            self._asked.close()
        self._asked = None


def _own_connection(engine: Engine) -> psycopg.Connection:
    """A connection as the engine makes them, which is none of its pool's."""
    borrowed = engine.raw_connection()
    connection = borrowed.driver_connection
    assert isinstance(connection, psycopg.Connection)
    borrowed.detach()
    connection.autocommit = True
    return connection


def _prepared(connection: psycopg.Connection, statement: str) -> psycopg.Connection:
    answer = connection.pgconn.prepare(_NAME, statement.encode())
    if answer.status != pq.ExecStatus.COMMAND_OK:
        connection.close()
        raise psycopg.OperationalError(answer.get_error_message())
    return connection


def _gives_row(connection: pq.abc.PGconn, parameters: list[bytes]) -> bool:
    """Raises TimeoutError where no answer comes in time, which leaves the connection useless."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    connection.send_query_prepared(_NAME, parameters)
    connection.flush()
    answers = select.poll()
    answers.register(connection.socket, select.POLLIN)
    while connection.is_busy():
        if not answers.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError(f"no answer within {ANSWER_WITHIN_S * 1000:.0f} ms")
        connection.consume_input()
    answer = connection.get_result()
    assert answer is not None
    if answer.status != pq.ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError(answer.get_error_message())
    sees = answer.ntuples > 0
    while connection.get_result() is not None:
        pass
    return sees
