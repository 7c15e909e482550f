"""The metric of the promise "it learns": half for what happens, half for what does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.neuralos.accuracy import Balanced, Share, evenly, is_nearer_truth


def frame(value: int, window: int | None = None) -> NDArray[np.uint8]:
    """A 4x4 screen, with something 2x2 in its corner."""
    pixels = np.full((4, 4, 3), value, np.uint8)
    if window is not None:
        pixels[:2, :2] = window
    return pixels


def test_only_the_region_where_the_outcomes_differ_counts() -> None:
    true, other = frame(0, window=200), frame(0)
    wrong_elsewhere = frame(255, window=190)
    right_elsewhere = frame(0, window=40)
    assert is_nearer_truth(wrong_elsewhere, true, other)
    assert not is_nearer_truth(right_elsewhere, true, other)


def test_a_step_with_one_outcome_is_no_case() -> None:
    with pytest.raises(ValueError, match="the same"):
        is_nearer_truth(frame(0), frame(1), frame(1))


def test_a_model_for_which_nothing_ever_happens_earns_one_half() -> None:
    balanced = Balanced(changes=Share(0, 120), no_changes=Share(120, 120))
    assert balanced.value == 0.5


def test_wilson_interval_of_90_of_100() -> None:
    low, high = Share(90, 100).interval
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 200), st.integers(1, 200))
def test_the_interval_holds_the_value(a: int, b: int, more_a: int, more_b: int) -> None:
    balanced = Balanced(Share(a, a + more_a), Share(b, b + more_b))
    low, high = balanced.interval
    assert 0 <= low <= balanced.value <= high <= 1


@given(st.integers(0, 500), st.integers(1, 200))
def test_evenly_takes_different_indices_in_order(count: int, wanted: int) -> None:
    taken = list(evenly(count, wanted))
    assert len(taken) == min(count, wanted)
    assert taken == sorted(set(taken))
    assert all(0 <= index < count for index in taken)
