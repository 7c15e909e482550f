"""What `ingest.leases` promises."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, update

from ingest.buffer import FRAME, new_revision
from ingest.database import read, write
from ingest.leases import ShardClaim, claim_shard, release_shard, renew_shard
from ingest.tables import Shard
from tests.factories import START, make_samples, place_samples

LEASE_S = 30.0


@pytest.fixture
def shard_id(engine: Engine) -> str:
    """A live shard that nobody holds."""
    with write(engine) as session:
        numbers = make_samples(session, representations=())
        revision = new_revision(session, "encoded", added=0, retired=0, now=START)
        return place_samples(session, numbers, FRAME, revision, now=START)


def claim(engine: Engine, shard_id: str, holder: str, now: float) -> ShardClaim | None:
    with write(engine) as session:
        return claim_shard(session, shard_id, holder, now=now, lease_s=LEASE_S)


def test_a_shard_is_held_by_one_worker_until_its_lease_is_over(
    engine: Engine, shard_id: str
) -> None:
    assert claim(engine, shard_id, "one", 100.0) == ShardClaim(shard_id, "one")
    assert claim(engine, shard_id, "two", 129.9) is None
    assert claim(engine, shard_id, "two", 130.0) == ShardClaim(shard_id, "two")


def test_raced_by_many_a_shard_goes_to_one(engine: Engine, shard_id: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        holders = [f"worker-{number}" for number in range(4)]
        claims = pool.map(lambda holder: claim(engine, shard_id, holder, 100.0), holders)
    assert sum(each is not None for each in claims) == 1


def test_a_renewed_lease_lasts_and_a_released_one_is_over(engine: Engine, shard_id: str) -> None:
    held = claim(engine, shard_id, "one", 100.0)
    assert held is not None
    with write(engine) as session:
        assert renew_shard(session, held, now=120.0, lease_s=LEASE_S)
    assert claim(engine, shard_id, "two", 149.0) is None
    with write(engine) as session:
        assert release_shard(session, held)
    assert claim(engine, shard_id, "two", 149.0) is not None


def test_a_claim_that_was_lost_is_neither_renewed_nor_released(
    engine: Engine, shard_id: str
) -> None:
    lost = claim(engine, shard_id, "one", 100.0)
    assert lost is not None
    claim(engine, shard_id, "two", 130.0)
    with write(engine) as session:
        assert not renew_shard(session, lost, now=131.0, lease_s=LEASE_S)
        assert not release_shard(session, lost)
    with read(engine) as session:
        assert session.get_one(Shard, shard_id).lease_holder == "two"


def test_a_lease_from_before_the_clock_was_turned_back_is_over(
    engine: Engine, shard_id: str
) -> None:
    claim(engine, shard_id, "one", 10_000.0)
    assert claim(engine, shard_id, "two", 10_000.0 - LEASE_S) is None  # two clocks may differ
    assert claim(engine, shard_id, "two", 9_000.0) is not None


def test_a_quarantined_shard_is_not_claimed(engine: Engine, shard_id: str) -> None:
    with write(engine) as session:
        session.execute(update(Shard).values(state="quarantined"))
    assert claim(engine, shard_id, "one", 100.0) is None
