"""Token buckets: what anybody gets over any time, and who is told to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.problems import Problem
from ingest.rates import MAX_OWNERS, Buckets, Rates, network_of
from ingest.settings import Settings


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_is_there_at_once_and_then_refills_evenly() -> None:
    clock = Clock()
    buckets = Buckets(3, 60.0, clock)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 20.0]
    clock.now = 20.0
    assert [buckets.take("a"), buckets.take("a")] == [0.0, 20.0]


def test_one_owner_does_not_use_up_anothers() -> None:
    buckets = Buckets(1, 60.0, Clock())
    assert [buckets.take("a"), buckets.take("b")] == [0.0, 0.0]
    assert buckets.take("a") > 0


def test_a_batch_above_the_allowance_passes_and_is_paid_off() -> None:
    clock = Clock()
    buckets = Buckets(60, 60.0, clock)
    assert buckets.take("a", 600) == 0.0
    assert buckets.take("a", 1) == 541.0
    clock.now = 541.0
    assert buckets.take("a", 1) == 0.0


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 20)), max_size=60))
def test_nobody_gets_more_than_the_allowance_and_its_refill(
    asked: list[tuple[float, int]],
) -> None:
    clock = Clock()
    buckets, taken, last = Buckets(10, 60.0, clock), 0, 0
    for wait_s, amount in asked:
        clock.now += wait_s
        if buckets.take("a", amount) == 0.0:
            taken, last = taken + amount, amount
        assert taken - last <= 10 + clock.now * 10 / 60 + 1e-6


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = Clock()
    buckets = Buckets(7, 60.0, clock)
    for _ in range(100):
        wait_s = buckets.take("a", 5)
        if wait_s > 0.0:
            clock.now += wait_s + 1e-9
            assert buckets.take("a", 5) == 0.0


def test_memory_is_bounded_whoever_comes() -> None:
    buckets = Buckets(1, 60.0, Clock())
    for owner in range(MAX_OWNERS + 10):
        buckets.take(str(owner))
    assert len(buckets._buckets) == MAX_OWNERS


def test_a_refusal_says_when_to_come_again() -> None:
    rates = Rates(Settings(max_changes_per_min=1))
    rates.take_change("a")
    with pytest.raises(Problem) as refusal:
        rates.take_change("a")
    assert refusal.value.body.status == 429
    assert refusal.value.headers == {"Retry-After": "60"}


def test_a_quota_holds_beside_the_rate() -> None:
    rates = Rates(Settings(max_events_per_day=1_000))
    rates.take_events("a", 1_000)
    with pytest.raises(Problem) as refusal:
        rates.take_events("a", 1)
    assert int(refusal.value.headers["Retry-After"]) == 87


def test_an_address_is_what_a_machine_can_not_change_at_will() -> None:
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff")
    assert network_of("testclient") == "testclient"
