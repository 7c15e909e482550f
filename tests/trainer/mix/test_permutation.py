"""Keyed random order: a place for every sample number, computed instead of stored."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.mix.permutation import order_by, permutation_key, places

NUMBERS = np.arange(20_000)


def test_places_are_the_same_on_every_machine() -> None:
    assert permutation_key(7, "fresh", "plain", 3) == 10907820638658593974
    expected = [0.7138577247376193, 0.3867680459839341, 0.11978240715326904]
    assert places(5, np.array([0, 1, 2**40])).tolist() == expected


def test_places_fill_the_interval_evenly() -> None:
    at = places(permutation_key("even"), NUMBERS)
    counts = np.histogram(at, bins=20, range=(0, 1))[0]
    assert at.min() > 0
    assert at.max() <= 1
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_another_key_gives_an_unrelated_order() -> None:
    first, second = (places(permutation_key(index), NUMBERS) for index in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(NUMBERS.size)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 5 / np.sqrt(NUMBERS.size)


@given(st.lists(st.sampled_from([0.25, 0.5, 1.0])), st.randoms())
def test_equal_places_are_ordered_by_number(keys: list[float], random: random.Random) -> None:
    numbers = np.arange(len(keys))
    random.shuffle(numbers)
    order = order_by(np.array(keys, dtype=float), numbers)
    assert [(keys[i], numbers[i]) for i in order] == sorted(zip(keys, numbers, strict=True))
