"""PostgreSQL alone: what is an outage, and what a URL may say."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import InternalError, OperationalError

from ingest.database import Unreachable, open_engine, open_lookout, read, write
from ingest.replay.queue import claim_next
from tests.databases import PostgresDatabase, Stock
from tests.factories import action_payload, make_episode, make_session
from tests.trainer.runs import make_run
from trainer import evaluate
from trainer.tables import Checkpoint, Evaluation


@pytest.fixture
def database(stock: Stock) -> Iterator[PostgresDatabase]:
    with stock.database() as database:
        yield database


def value(engine: Engine, query: str) -> object:
    with read(engine) as session:
        return session.scalar(text(query))


def test_a_url_without_a_driver_means_psycopg(database: PostgresDatabase) -> None:
    engine = open_engine(database.url.replace("postgresql+psycopg:", "postgresql:"))
    assert value(engine, "SELECT 1") == 1
    assert engine.dialect.driver == "psycopg"
    engine.dispose()


def test_another_database_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"STOVETOP_DATABASE_URL.*not mysql"):
        open_engine("mysql://somewhere/x")


def test_a_url_s_own_options_hold(database: PostgresDatabase) -> None:
    engine = open_engine(f"{database.url}&options=-c%20statement_timeout%3D7s&application_name=me")
    assert value(engine, "SHOW statement_timeout") == "7s"
    assert value(engine, "SHOW application_name") == "me"
    assert value(engine, "SHOW lock_timeout") == "5s"
    engine.dispose()


def test_a_reader_can_not_write(engine: Engine) -> None:
    with read(engine) as session:
        with pytest.raises(InternalError, match="read-only transaction"):
            session.execute(text("DELETE FROM counters"))
        session.rollback()


def test_a_lock_is_waited_for_as_long_as_was_said(database: PostgresDatabase) -> None:
    engine = open_engine(database.url, busy_timeout_s=0.05)
    with database.locked():
        started = time.monotonic()
        with pytest.raises(OperationalError, match="lock timeout"), write(engine) as session:
            session.execute(text("DELETE FROM counters"))
        assert 0.04 < time.monotonic() - started < 2
    engine.dispose()


@pytest.mark.parametrize(
    "trouble",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)",
        "SELECT * FROM not_there_yet",
    ],
)
def test_what_may_be_tried_again_is_an_operational_error(engine: Engine, trouble: str) -> None:
    *before, last = trouble.split("; ")
    with write(engine) as session:
        for statement in before:
            session.execute(text(statement))
        with pytest.raises(OperationalError):
            session.execute(text(last))
        session.rollback()
    assert value(engine, "SELECT 1") == 1


def test_a_server_that_hangs_costs_who_looks_out_50_ms_once(
    engine: Engine, database: PostgresDatabase
) -> None:
    statement = "SELECT 1 FROM counters WHERE value > $1"
    with closing(open_lookout(engine, statement, channel="things", word="door")) as lookout:
        with database.frozen():
            started = time.monotonic()
            for _ in range(100):
                with pytest.raises(Unreachable):
                    lookout.sees(0)
            assert time.monotonic() - started < 0.3
        lookout.wait()
        assert not lookout.sees(0)


def test_who_claims_passes_over_what_another_is_claiming(engine: Engine) -> None:
    """Neither an episode nor an evaluation makes a worker wait for another one's commit."""
    with write(engine) as session:
        owner = make_session(session)
        for _ in range(2):
            make_episode(session, owner, [action_payload()], state="waiting")
        make_run(session)
        session.add(make_checkpoint("checkpoint"))
        session.flush()
        for suite in ("one", "two"):
            session.add(make_evaluation(suite))
    with write(engine) as first, write(engine) as second:
        episodes = [claim_next(each, "me", now=1.0, lease_s=30.0) for each in (first, second)]
        suites = [evaluate._claim(each, time.time()) for each in (first, second)]
        with write(engine) as third:
            assert claim_next(third, "me", now=1.0, lease_s=30.0) is None
            assert evaluate._claim(third, time.time()) is None
    assert len({claim.episode_id for claim in episodes if claim is not None}) == 2
    assert {claimed.suite for claimed in suites if claimed is not None} == {"one", "two"}


def make_checkpoint(checkpoint_id: str) -> Checkpoint:
    return Checkpoint(
        checkpoint_id=checkpoint_id,
        run_id="run",
        branch="main",
        step=3,
        lr=0.1,
        name="main-3",
        note="",
        path="",
        digest="",
        num_bytes=2**40,
        is_kept=False,
        created_at=0.0,
    )


def make_evaluation(suite: str) -> Evaluation:
    return Evaluation(
        evaluation_id=suite,
        run_id="run",
        checkpoint_id="checkpoint",
        suite=suite,
        state="waiting",
        attempts=0,
        created_at=0.0,
    )


def test_who_slept_inside_a_transaction_finds_an_operational_error(engine: Engine) -> None:
    with write(engine) as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 1"))
        time.sleep(0.1)
        # The server says why, and hangs up: who writes at that moment reads only the latter.
        with pytest.raises(OperationalError, match="idle-in-transaction|closed the connection"):
            session.execute(text("SELECT 1"))
        session.rollback()
    assert value(engine, "SELECT 1") == 1


def test_a_connection_that_broke_while_it_was_idle_is_replaced(
    engine: Engine, database: PostgresDatabase
) -> None:
    assert value(engine, "SELECT 1") == 1
    with database.away():
        pass
    assert value(engine, "SELECT 1") == 1
