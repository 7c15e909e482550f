"""The cap on one owner's share of a pass."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from trainer.mix.owners import admit, compose, owner_limit
from trainer.mix.permutation import places

COUNTS = st.lists(st.integers(1, 500), min_size=1, max_size=40).map(np.array)
CAPS = st.sampled_from([0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0])


def satisfies(limit: int, counts: np.ndarray, cap: float) -> bool:
    return limit <= cap * np.minimum(counts, limit).sum() + 1e-6


@given(COUNTS, CAPS)
def test_the_limit_is_the_largest_that_keeps_every_owner_at_the_cap(
    counts: np.ndarray, cap: float
) -> None:
    assume(counts.size * cap > 1 + 1e-6)
    limit = owner_limit(counts, cap)
    assert satisfies(min(limit, counts.max()), counts, cap)
    assert limit == counts.max() or not satisfies(limit + 1, counts, cap)


@given(COUNTS, CAPS)
def test_too_few_owners_for_the_cap_get_equal_shares(counts: np.ndarray, cap: float) -> None:
    assume(counts.size * cap <= 1)
    assert owner_limit(counts, cap) == counts.min()


def test_no_cap_binds_where_nobody_has_more_than_it() -> None:
    assert owner_limit(np.array([10] * 10), 0.1) == 10
    assert owner_limit(np.array([7]), 1.0) == 7
    assert owner_limit(np.array([], dtype=np.int64), 0.1) == 0


def test_an_owner_above_the_limit_takes_turns_until_all_came_up() -> None:
    owners = np.repeat([0, 1, 2], [100, 10, 10])
    composition = compose(owners, places(1, np.arange(owners.size)), 0.5)
    assert composition.limit == 20
    turns: dict[int, float] = {}
    seen = []
    for _ in range(5):
        chosen, turns = composition.next_pass(turns)
        assert sorted(chosen[owners[chosen] > 0]) == list(range(100, 120))
        seen.extend(chosen[owners[chosen] == 0])
    assert sorted(seen) == list(range(100))


def test_fresh_samples_enter_a_running_pass_up_to_the_limit() -> None:
    owners = np.repeat([0, 1, 2], [100, 10, 10])
    joins = np.zeros(120, dtype=bool)
    joins[95:105] = True  # 5 of the owner that has enough, 5 of one that has room
    admitted = admit(owners, joins, places(1, np.flatnonzero(joins)), 0.5)
    assert np.flatnonzero(joins)[admitted].tolist() == [100, 101, 102, 103, 104]


def test_a_new_owner_enters_a_running_pass_up_to_the_limit() -> None:
    owners = np.repeat([0, 1, 2], [10, 10, 100])
    joins = owners == 2
    assert admit(owners, joins, places(1, np.flatnonzero(joins)), 0.5).sum() == 20
