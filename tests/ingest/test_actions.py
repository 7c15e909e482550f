"""Actions: whatever a payload holds, one readable action comes out."""

import math

from hypothesis import given
from hypothesis import strategies as st

from ingest.actions import Action
from ingest.keyboard import VOCABULARY

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
FIELDS = (
    "x", "y", "is_left_click", "is_right_click",
    "keys_down", "keys_up", "wheel_delta_x", "wheel_delta_y",
)  # fmt: skip


def test_a_log_lines_payload_is_read() -> None:
    payload = {
        "x": 213.5,
        "y": 97,
        "is_left_click": True,
        "is_right_click": False,
        "keys_down": ["N", "Dead"],
        "keys_up": ["Shift"],
        "wheel_delta_x": 0,
        "wheel_delta_y": -100,
        "is_auto_input": False,
    }
    assert Action.from_payload(payload) == Action(
        213.5, 97.0, left=True, keys_down=("n",), keys_up=("shift",), wheel_y=-100.0
    )


def test_nulls_count_as_nothing_done_in_the_corner() -> None:
    assert Action.from_payload(dict.fromkeys(FIELDS)) == Action(0.0, 0.0)
    assert Action.from_payload({}) == Action(0.0, 0.0)


def test_wild_coordinates_stay_on_the_screen() -> None:
    assert Action.from_payload({"x": -40, "y": 10**400}) == Action(0.0, 383.0)
    assert Action.from_payload({"x": math.inf, "y": math.nan}) == Action(511.0, 0.0)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_payload_raises_or_leaves_the_screen(payload: dict[str, object]) -> None:
    action = Action.from_payload(payload)
    assert 0 <= action.x <= 511
    assert 0 <= action.y <= 383
    assert math.isfinite(action.wheel_x + action.wheel_y)
    assert {*action.keys_down, *action.keys_up} <= set(VOCABULARY)
