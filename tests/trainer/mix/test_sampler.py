"""The mix sampler: which samples the next step draws."""

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.adoptions import slice_change
from trainer.mix.cohorts import SliceChange, fold
from trainer.mix.sampler import MixSampler, NothingToDraw
from trainer.mix.slice_sampler import SlicePolicy

UNCAPPED = SlicePolicy(max_share_per_user=1.0)


def sampler_over(
    slices: Mapping[str, SliceChange],
    shares: Mapping[str, float] | None = None,
    policies: Mapping[str, SlicePolicy] | None = None,
    seed: int = 7,
) -> MixSampler:
    shares = shares or dict.fromkeys(slices, 1.0)
    sampler = MixSampler(shares, seed, policies or dict.fromkeys(slices, UNCAPPED))
    sampler.adopt(1, slices)
    return sampler


def drawn(sampler: MixSampler, num_steps: int, step: int = 1) -> list[int]:
    return [n for _ in range(num_steps) for n in sampler.draw(step).numbers.tolist()]


# Shares


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcde"), st.floats(0.01, 1), min_size=1),
    st.integers(1, 40),
)
def test_shares_are_exact_for_any_number_of_draws(shares: dict[str, float], step: int) -> None:
    names = sorted(shares)
    slices = {name: slice_change(range(i * 1000, i * 1000 + 300)) for i, name in enumerate(names)}
    sampler, counts = sampler_over(slices, shares), Counter[str]()
    for _ in range(10):
        counts.update(names[n // 1000] for n in sampler.draw(step).numbers)
        for name, share in shares.items():
            wanted = share / sum(shares.values()) * counts.total()
            assert abs(counts[name] - wanted) < max(1, len(shares))


def test_half_of_the_draws_show_a_change_and_half_do_not() -> None:
    sampler = sampler_over({"a": slice_change(range(1000), changing=range(0, 1000, 20))})
    changing = sum(n % 20 == 0 for n in drawn(sampler, 10, step=10))
    assert changing == 50


def test_an_empty_lane_gives_its_half_to_the_other() -> None:
    sampler = sampler_over({"a": slice_change(range(100))})
    assert sorted(drawn(sampler, 100)) == list(range(100))


def test_an_empty_slice_gives_its_share_to_the_others_and_starves() -> None:
    slices = {"a": slice_change(range(100)), "b": slice_change(range(100, 300))}
    shares = {"a": 0.2, "b": 0.3, "empty": 0.5}
    sampler = sampler_over(slices, shares, dict.fromkeys(shares, UNCAPPED))
    status = sampler.draw(100).status
    assert status.starved == ("empty",)
    assert status.wanted == {"a": 0.2, "b": 0.3, "empty": 0.5}
    assert status.actual == {"a": 0.4, "b": 0.6, "empty": 0.0}


def test_a_slice_smaller_than_its_share_of_a_step_starves_for_the_rest_of_the_step() -> None:
    sampler = sampler_over(
        {"few": slice_change(range(4)), "many": slice_change(range(100, 900))},
        {"few": 0.5, "many": 0.5},
    )
    for _ in range(3):
        draw = sampler.draw(32)
        assert np.count_nonzero(draw.numbers < 100) == 4
        assert draw.status.starved == ("few",)


def test_new_shares_hold_from_the_next_draw_and_are_counted_from_there() -> None:
    slices = {"a": slice_change(range(500)), "b": slice_change(range(500, 1000))}
    sampler = sampler_over(slices, {"a": 0.9, "b": 0.1})
    sampler.draw(37)
    sampler.set_shares({"a": 0.0, "b": 1.0})
    draw = sampler.draw(10)
    assert (draw.numbers >= 500).all()
    assert draw.status.actual == {"b": 1.0}


def test_a_mix_without_samples_says_so_and_draws_nothing() -> None:
    sampler = MixSampler({"fresh": 1.0}, seed=7)
    with pytest.raises(NothingToDraw, match="fresh"):
        sampler.draw(4)
    sampler.adopt(1, {"fresh": slice_change([5])})
    assert sampler.draw(1).numbers.tolist() == [5]


# Passes


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 30), st.integers(0, 2**32))
def test_a_pass_repeats_and_misses_nothing(size: int, step: int, seed: int) -> None:
    sampler = sampler_over({"a": slice_change(range(size))}, seed=seed)
    numbers = drawn(sampler, 3 * size, step=min(step, size))
    for start in range(0, 3 * size, size):
        assert sorted(numbers[start : start + size]) == list(range(size))


def test_passes_and_seeds_differ_in_their_order() -> None:
    sampler, other = (sampler_over({"a": slice_change(range(50))}, seed=seed) for seed in (1, 2))
    first, second = drawn(sampler, 50), drawn(sampler, 50)
    assert first != second
    assert first != drawn(other, 50)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 59), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_fresh_samples_are_drawn_once_in_the_running_pass(
    num_before: int, cohorts: list[int]
) -> None:
    sampler = sampler_over({"a": slice_change(range(60))})
    numbers, members = drawn(sampler, num_before), 60
    for number, size in enumerate(cohorts, start=2):
        sampler.adopt(number, {"a": slice_change(range(members, members + size), number=number)})
        members += size
        numbers += drawn(sampler, 1)
    numbers += drawn(sampler, members - len(numbers))
    assert sorted(numbers) == list(range(members))
    assert sorted(drawn(sampler, members)) == list(range(members))


def test_draws_go_to_cohorts_in_proportion_to_what_is_left_of_them() -> None:
    sampler = sampler_over({"a": slice_change(range(4000))})
    drawn(sampler, 20, step=100)
    sampler.adopt(2, {"a": slice_change(range(4000, 5000), number=2)})
    fresh = sum(n >= 4000 for n in drawn(sampler, 6, step=100))
    assert abs(fresh - 200) < 5 * np.sqrt(600 * 2 / 9)


def test_a_removed_sample_is_never_drawn_again() -> None:
    sampler = sampler_over({"a": slice_change(range(40), changing=range(20))})
    drawn(sampler, 13)
    removed = range(0, 40, 3)
    sampler.adopt(2, {"a": slice_change(removed=removed)})
    assert not set(drawn(sampler, 200)) & set(removed)


def test_a_sample_that_returns_to_a_slice_is_fresh() -> None:
    sampler = sampler_over({"a": slice_change(range(5))})
    assert len(set(drawn(sampler, 5))) == 5
    sampler.adopt(2, {"a": slice_change(removed=[3])})
    sampler.adopt(3, {"a": slice_change([3], number=3)})
    assert drawn(sampler, 1) == [3]


# Several slices, one step


def test_a_sample_in_several_slices_counts_as_drawn_in_all() -> None:
    sampler = sampler_over({"a": slice_change(range(60)), "b": slice_change(range(60))})
    counts = Counter(drawn(sampler, 60))
    assert len(counts) >= 59  # the first draw of "a" comes before the pass of "b" begins


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=1, max_size=4), st.integers(1, 40)
)
def test_no_step_holds_a_sample_twice(slices: list[set[int]], step: int) -> None:
    members = set().union(*slices)
    sampler = sampler_over(
        {f"s{i}": slice_change(sorted(slice_)) for i, slice_ in enumerate(slices)}
    )
    for _ in range(20):
        numbers = sampler.draw(min(step, len(members))).numbers.tolist()
        assert len(set(numbers)) == len(numbers)


def test_a_step_that_wants_more_than_there_is_repeats_only_then() -> None:
    sampler = sampler_over({"a": slice_change(range(5))})
    counts = Counter(sampler.draw(12).numbers.tolist())
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
    assert len(set(sampler.draw(5).numbers.tolist())) == 5


# Limits of a slice


def test_no_owner_has_more_than_the_cap_of_a_pass() -> None:
    owners = [n % 19 if n < 190 else 99 for n in range(1000)]
    sampler = sampler_over(
        {"a": slice_change(range(1000), owners=owners)}, policies={"a": SlicePolicy(0.10)}
    )
    numbers = drawn(sampler, 211)  # 190 of the small owners and 21 of the large one
    counts = Counter(owners[n] for n in numbers)
    assert counts[99] == 21
    assert all(counts[owner] == 10 for owner in range(19))


def test_all_samples_of_a_capped_owner_come_up_over_the_passes() -> None:
    owners = [n if n < 20 else 99 for n in range(60)]
    sampler = sampler_over(
        {"a": slice_change(range(60), owners=owners)}, policies={"a": SlicePolicy(0.10)}
    )
    of_the_capped = [n for n in drawn(sampler, 22 * 20) if n >= 20]
    assert sorted(of_the_capped) == list(range(20, 60))


def test_an_owner_that_keeps_arriving_stays_capped_within_a_pass() -> None:
    sampler = sampler_over(
        {"a": slice_change(range(190), owners=[n % 19 for n in range(190)])},
        policies={"a": SlicePolicy(0.10)},
    )
    numbers = drawn(sampler, 10)
    for number in range(2, 12):
        fresh = range(number * 1000, number * 1000 + 50)
        change = slice_change(fresh, number=number, owners=[99] * 50)
        sampler.adopt(number, {"a": change})
        numbers += drawn(sampler, 5)
    numbers += drawn(sampler, 211 - len(numbers))
    assert sum(n >= 1000 for n in numbers) == 21


def test_a_sample_is_not_used_more_often_than_its_slice_allows() -> None:
    policies = {"a": SlicePolicy(1.0, max_uses=2), "b": UNCAPPED}
    slices = {"a": slice_change(range(10)), "b": slice_change(range(5, 200))}
    sampler = sampler_over(slices, {"a": 0.5, "b": 0.5}, policies)
    counts = Counter(drawn(sampler, 60, step=5))
    assert all(counts[n] == 2 for n in range(5))
    assert sampler.draw(5).status.starved == ("a",)


def test_a_slice_used_up_draws_again_when_fresh_samples_come_or_its_limit_rises() -> None:
    once = SlicePolicy(1.0, max_uses=1)
    sampler = sampler_over({"a": slice_change(range(3))}, policies={"a": once})
    assert sorted(drawn(sampler, 3)) == [0, 1, 2]
    with pytest.raises(NothingToDraw):
        sampler.draw(1)
    sampler.adopt(2, {"a": slice_change([7], number=2)})
    assert drawn(sampler, 1) == [7]
    sampler.set_shares({"a": 1.0}, {"a": SlicePolicy(1.0, max_uses=2)})
    assert sorted(drawn(sampler, 4)) == [0, 1, 2, 7]


def test_a_step_that_uses_limits_cannot_fill_draws_nothing() -> None:
    once = SlicePolicy(1.0, max_uses=1)
    sampler = sampler_over({"a": slice_change(range(3))}, policies={"a": once})
    with pytest.raises(NothingToDraw):
        sampler.draw(4)
    assert sorted(sampler.draw(3).numbers.tolist()) == [0, 1, 2]


# Undo and resume


class Story:
    """A sampler and all that was adopted, so that it can be made again from its state."""

    def __init__(self, seed: int, policy: SlicePolicy) -> None:
        self.policies = {"a": policy, "b": UNCAPPED}
        self.sampler = MixSampler({"a": 0.6, "b": 0.4}, seed, self.policies)
        self.changes: dict[str, list[SliceChange]] = {"a": [], "b": []}
        self.members: dict[str, set[int]] = {"a": set(), "b": set()}
        self.number = 0
        self.adopt({"a": set(range(30)), "b": set(range(20, 60))})

    def adopt(self, members: Mapping[str, set[int]]) -> None:
        self.number += 1
        changes = {
            name: slice_change(
                sorted(wanted - self.members[name]),
                number=self.number,
                owners=[n % 5 for n in sorted(wanted - self.members[name])],
                changing=range(0, 1000, 3),
                removed=sorted(self.members[name] - wanted),
            )
            for name, wanted in members.items()
        }
        self.sampler.adopt(self.number, changes)
        for name, change in changes.items():
            self.changes[name].append(change)
            self.members[name] = set(members[name])

    def resumed(self) -> MixSampler:
        state = json.loads(json.dumps(self.sampler.state_dict()))
        members = {name: fold(changes) for name, changes in self.changes.items()}
        return MixSampler.from_state(state, members)


POLICIES = st.sampled_from([UNCAPPED, SlicePolicy(0.3), SlicePolicy(1.0, 9), SlicePolicy(0.3, 9)])
MEMBERS = st.sets(st.integers(0, 99), min_size=8)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.integers(1, 20)),
        st.tuples(
            st.just("adopt"), st.fixed_dictionaries({}, optional={"a": MEMBERS, "b": MEMBERS})
        ),
        st.tuples(st.just("shares"), st.floats(0, 1)),
    ),
    max_size=12,
)


def perform(story: Story, acts: list[tuple[str, object]]) -> list[int]:
    numbers: list[int] = []
    for act, argument in acts:
        if act == "draw":
            numbers += story.sampler.draw(argument).numbers.tolist()
        elif act == "adopt":
            story.adopt(argument)
        else:
            story.sampler.set_shares({"a": argument, "b": 1.5 - argument}, story.policies)
    return numbers


@settings(deadline=None)
@given(st.integers(0, 9), POLICIES, ACTS, ACTS)
def test_a_resumed_sampler_continues_exactly(
    seed: int, policy: SlicePolicy, before: list, after: list
) -> None:
    story, resumed = Story(seed, policy), Story(seed, policy)
    for told in (story, resumed):
        perform(told, before)
    resumed.sampler = resumed.resumed()
    assert perform(resumed, after) == perform(story, after)
    assert resumed.sampler.status == story.sampler.status


@settings(deadline=None)
@given(st.integers(0, 9), POLICIES, ACTS, st.lists(st.integers(1, 20), max_size=5))
def test_draws_that_were_taken_back_leave_no_trace(
    seed: int, policy: SlicePolicy, acts: list, steps: list[int]
) -> None:
    story = Story(seed, policy)
    perform(story, acts)
    state, status = story.sampler.state_dict(), story.sampler.status
    draws = [story.sampler.draw(step) for step in steps]
    for draw in reversed(draws):
        story.sampler.undo(draw)
    assert (story.sampler.state_dict(), story.sampler.status) == (state, status)
    assert [story.sampler.draw(step).numbers.tolist() for step in steps] == [
        draw.numbers.tolist() for draw in draws
    ]


def test_the_state_of_a_large_slice_is_small() -> None:
    sampler = sampler_over({"a": slice_change(range(100_000))})
    sampler.draw(64)
    assert len(json.dumps(sampler.state_dict())) < 1000


def test_an_adoption_that_does_not_follow_is_refused() -> None:
    sampler = sampler_over({"a": slice_change([1])})
    with pytest.raises(ValueError, match="adoption 1 does not follow 1"):
        sampler.adopt(1, {})
