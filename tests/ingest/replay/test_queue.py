"""What `ingest.replay.queue` promises."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, update

from ingest.database import read, write
from ingest.replay.queue import (
    Claim,
    claim_next,
    fail,
    finish,
    held_episode,
    release,
    renew,
)
from ingest.tables import Episode
from tests.factories import make_episode

LEASE_S = 30.0


def wait_for_replay(engine: Engine, count: int = 1) -> list[str]:
    with write(engine) as session:
        return [make_episode(session).episode_id for _ in range(count)]


def claim(engine: Engine, holder: str = "one", now: float = 100.0) -> Claim | None:
    with write(engine) as session:
        return claim_next(session, holder, now=now, lease_s=LEASE_S)


def claimed(engine: Engine, holder: str = "one", now: float = 100.0) -> Claim:
    found = claim(engine, holder, now)
    assert found is not None
    return found


def episode(engine: Engine, episode_id: str) -> Episode:
    with read(engine) as session:
        return session.get_one(Episode, episode_id)


def test_a_waiting_episode_is_claimed_with_a_lease(engine: Engine) -> None:
    (episode_id,) = wait_for_replay(engine)
    assert claim(engine) == Claim(episode_id, 1, "one")
    row = episode(engine, episode_id)
    assert (row.state, row.lease_holder, row.lease_expires_at) == ("leased", "one", 130.0)


@pytest.mark.parametrize("state", ["open", "replayed", "parked", "superseded"])
def test_only_a_waiting_episode_is_claimed(engine: Engine, state: str) -> None:
    with write(engine) as session:
        make_episode(session, state=state)
    assert claim(engine) is None


def test_a_claimed_episode_is_not_claimed_again_while_its_lease_holds(engine: Engine) -> None:
    wait_for_replay(engine)
    claimed(engine, now=100.0)
    assert claim(engine, "two", now=129.9) is None


def test_a_dead_workers_lease_returns_and_counts_as_an_attempt(engine: Engine) -> None:
    (episode_id,) = wait_for_replay(engine)
    claimed(engine, now=100.0)
    assert claimed(engine, "two", now=130.0).holder == "two"
    row = episode(engine, episode_id)
    assert (row.attempts, row.error) == (1, "its worker one died or hung over it")


def test_a_lease_from_before_the_clock_was_turned_back_returns(engine: Engine) -> None:
    wait_for_replay(engine)
    claimed(engine, now=10_000.0)
    assert claimed(engine, "two", now=9_000.0).holder == "two"


def test_a_renewed_lease_lasts(engine: Engine) -> None:
    wait_for_replay(engine)
    held = claimed(engine, now=100.0)
    with write(engine) as session:
        assert renew(session, held, now=120.0, lease_s=LEASE_S)
    assert claim(engine, "two", now=149.0) is None


def test_a_lost_lease_can_not_be_renewed(engine: Engine) -> None:
    wait_for_replay(engine)
    held = claimed(engine, now=100.0)
    claimed(engine, "two", now=200.0)
    with write(engine) as session:
        assert not renew(session, held, now=201.0, lease_s=LEASE_S)
        assert held_episode(session, held) is None


def test_a_newer_version_takes_the_claim_away(engine: Engine) -> None:
    wait_for_replay(engine)
    held = claimed(engine)
    with write(engine) as session:
        session.execute(update(Episode).values(version=2, state="waiting"))
        assert held_episode(session, held) is None
        release(session, held)
        assert not fail(session, held, "too late")
    assert episode(engine, held.episode_id).attempts == 0


def test_an_episode_that_fails_three_times_is_parked_with_its_error(engine: Engine) -> None:
    (episode_id,) = wait_for_replay(engine)
    for attempt in range(3):
        held = claimed(engine, now=100.0 + attempt)
        with write(engine) as session:
            assert fail(session, held, f"error {attempt}") == (attempt == 2)
    row = episode(engine, episode_id)
    assert (row.state, row.attempts, row.error) == ("parked", 3, "error 2")
    assert claim(engine, now=1e9) is None


def test_an_episode_that_kills_three_workers_is_parked_and_the_next_is_claimed(
    engine: Engine,
) -> None:
    deadly, harmless = wait_for_replay(engine, 2)
    for attempt in range(3):
        assert claimed(engine, now=100.0 + 100 * attempt).episode_id == deadly
    assert claimed(engine, now=500.0).episode_id == harmless
    assert episode(engine, deadly).state == "parked"


def test_a_released_episode_waits_again_without_an_attempt(engine: Engine) -> None:
    (episode_id,) = wait_for_replay(engine)
    held = claimed(engine)
    with write(engine) as session:
        release(session, held)
    assert episode(engine, episode_id).attempts == 0
    assert claimed(engine).episode_id == episode_id


def test_a_finished_episode_says_what_replayed_it(engine: Engine) -> None:
    wait_for_replay(engine)
    held = claimed(engine)
    with write(engine) as session:
        row = held_episode(session, held)
        assert row is not None
        finish(row, environment="drawn/1", tasks=" open_browser ", now=101.0)
    row = episode(engine, held.episode_id)
    assert (row.state, row.environment, row.tasks) == ("replayed", "drawn/1", " open_browser ")
    assert (row.replayed_version, row.replayed_at, row.lease_holder) == (1, 101.0, None)


def test_workers_that_race_get_every_episode_once(engine: Engine) -> None:
    episode_ids = wait_for_replay(engine, 20)

    def claim_all(holder: str) -> list[str]:
        claims = iter(lambda: claim(engine, holder), None)
        return [found.episode_id for found in claims if found]

    with ThreadPoolExecutor(4) as pool:
        won = [claim for claims in pool.map(claim_all, "abcd") for claim in claims]
    assert sorted(won) == sorted(episode_ids)


def test_claiming_needs_no_sort_however_many_wait(engine: Engine) -> None:
    asked = []

    def keep(
        _connection: object, _cursor: object, statement: str, given: tuple[Any, ...], *_: object
    ) -> None:
        asked.append((statement, given))

    event.listen(engine, "before_cursor_execute", keep)
    assert claim(engine) is None
    event.remove(engine, "before_cursor_execute", keep)
    ((statement, given),) = [query for query in asked if query[0].startswith("SELECT")]
    with write(engine) as session:
        plan = how_it_is_answered(session.connection(), statement, given)
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


def how_it_is_answered(connection: Connection, statement: str, given: tuple[Any, ...]) -> str:
    if connection.dialect.name == "sqlite":
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all())
    for other_way in ("enable_seqscan", "enable_sort"):  # which is quicker where nothing waits
        connection.exec_driver_sql(f"SET LOCAL {other_way} = off")
    return str(connection.exec_driver_sql(f"EXPLAIN {statement}", given).all())
