"""Exact shares: who is owed the next draw."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.mix.shares import Ledger

SHARES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(1e-3, 1.0), min_size=1, max_size=8)


def supply(ledger: Ledger, names: tuple[str, ...]) -> str:
    winner = ledger.owed(names)
    ledger.charge(winner, names)
    return winner


@given(SHARES, st.integers(1, 300))
def test_every_count_is_within_the_number_of_slices_of_its_share(
    shares: dict[str, float], num_draws: int
) -> None:
    ledger = Ledger(shares)
    wanted = ledger.proportions(ledger.names)
    counts = dict.fromkeys(shares, 0)
    for n in range(1, num_draws + 1):
        counts[supply(ledger, ledger.names)] += 1
        for name, count in counts.items():
            assert abs(count - wanted[name] * n) < max(1, len(shares) - 1)


@given(SHARES, st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=300))
def test_shares_stay_exact_while_slices_starve_and_return(
    shares: dict[str, float], starving: list[set[str]]
) -> None:
    ledger = Ledger(shares)
    due, counts = dict.fromkeys(shares, 0.0), dict.fromkeys(shares, 0)
    for missing in starving:
        names = tuple(name for name in ledger.names if name not in missing) or ledger.names
        for name, proportion in ledger.proportions(names).items():
            due[name] += proportion
        counts[supply(ledger, names)] += 1
        assert all(abs(counts[name] - due[name]) < max(1, len(shares)) for name in shares)


def test_a_slice_that_cannot_supply_gives_its_share_to_the_others_in_proportion() -> None:
    ledger = Ledger({"a": 0.5, "b": 0.3, "c": 0.2})
    drawn = [supply(ledger, ("b", "c")) for _ in range(100)]
    assert (drawn.count("b"), drawn.count("c")) == (60, 40)


def test_a_slice_that_returns_is_not_owed_what_others_drew_for_it() -> None:
    ledger = Ledger({"a": 0.5, "b": 0.5})
    for _ in range(100):
        supply(ledger, ("b",))
    drawn = [supply(ledger, ledger.names) for _ in range(10)]
    assert drawn.count("a") == 5


def test_ties_go_to_the_first_name_whatever_the_order_of_the_shares() -> None:
    orders = ({"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5})
    assert [supply(ledger, ledger.names) for ledger in map(Ledger, orders)] == ["a", "a"]


def test_a_share_of_zero_never_draws() -> None:
    assert Ledger({"a": 0.0, "b": 1.0}).names == ("b",)


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_a_share_that_is_no_share_is_refused_by_name(share: float) -> None:
    with pytest.raises(ValueError, match="'fresh'"):
        Ledger({"fresh": share, "base": 0.5})


def test_a_mix_without_any_share_is_refused() -> None:
    with pytest.raises(ValueError, match="no share is above 0"):
        Ledger({"fresh": 0.0})
