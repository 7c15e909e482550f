"""Lookouts: exact on both databases, woken by an announcement, and never a burden in an outage."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Engine

from ingest.database import (
    Lookout,
    Unreachable,
    announce,
    next_number,
    open_lookout,
    write,
)
from tests.databases import Database
from tests.waiting import wait_until

STATEMENT = "SELECT 1 FROM counters WHERE name = $1 AND value > $2"


@pytest.fixture
def lookout(engine: Engine) -> Iterator[Lookout]:
    with closing(open_lookout(engine, STATEMENT, channel="things", word="door")) as lookout:
        yield lookout


def count_on(engine: Engine, word: str = "door") -> int:
    with write(engine) as session:
        announce(session, channel="things", word=word)
        return next_number(session, "bell")


def is_seen_again(lookout: Lookout) -> bool:
    lookout.wait()
    try:
        return lookout.sees("bell", 0)
    except Unreachable:
        return False


def test_what_was_committed_before_is_seen(engine: Engine, lookout: Lookout) -> None:
    for _ in range(200):
        value = count_on(engine)
        assert lookout.sees("bell", value - 1)
        assert not lookout.sees("bell", value)


def test_what_is_not_committed_is_not_seen(engine: Engine, lookout: Lookout) -> None:
    with write(engine) as session:
        next_number(session, "bell")
        session.flush()
        assert not lookout.sees("bell", 0)
    assert lookout.sees("bell", 0)


def test_waiting_ends_with_an_announcement(engine: Engine, lookout: Lookout) -> None:
    count_on(engine)
    started = time.monotonic()
    lookout.wait()
    assert time.monotonic() - started < 0.2
    assert lookout.sees("bell", 0)


def test_what_nobody_announces_is_seen_all_the_same(engine: Engine, lookout: Lookout) -> None:
    with write(engine) as session:
        next_number(session, "bell")
    lookout.wait()
    assert lookout.sees("bell", 0)


def test_it_sees_again_after_an_outage(
    engine: Engine, database: Database, lookout: Lookout
) -> None:
    engine.dispose()
    with database.away():
        started = time.monotonic()
        try:
            lookout.sees("bell", 0)
        except Unreachable:
            with pytest.raises(Unreachable):
                lookout.sees("bell", 0)
        lookout.wait()
        assert time.monotonic() - started < 2
    count_on(engine)
    wait_until(lambda: is_seen_again(lookout), 10)
