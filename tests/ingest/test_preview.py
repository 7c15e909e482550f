"""What `ingest.preview` promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.preview import AGE_LIMITS_S, NUM_DRAWS, OLDER, SampleGroup, preview_mix

GROUPS = st.lists(
    st.builds(
        SampleGroup,
        session_key=st.sampled_from(["s1", "s2", "s3"]),
        user=st.sampled_from([None, "ann", "bob"]),
        tasks=st.lists(st.sampled_from(["open", "type"]), unique=True).map(tuple),
        is_change=st.booleans(),
        age=st.sampled_from([*AGE_LIMITS_S, OLDER]),
        newest_timestamp=st.floats(0, 1e9),
        num_samples=st.integers(1, 1000),
    ),
    max_size=6,
)
SHARE = st.floats(0.01, 1)


@given(GROUPS, GROUPS, SHARE)
def test_all_draws_are_expected_from_the_slices_that_hold_samples(
    fresh: list[SampleGroup], old: list[SampleGroup], share: float
) -> None:
    shares = {"fresh": share, "old": 1 - share}
    drawn = preview_mix(1, shares, {"fresh": fresh, "old": old}).slices
    can_draw = (fresh and share > 0) or (old and share < 1)
    total = sum(each.expected_draws for each in drawn)
    assert total == pytest.approx(NUM_DRAWS if can_draw else 0, abs=0.02)


@given(GROUPS)
def test_the_draws_of_every_age_are_all_draws(groups: list[SampleGroup]) -> None:
    (drawn,) = preview_mix(1, {"fresh": 1.0}, {"fresh": groups}).slices
    assert sum(drawn.ages.values()) == pytest.approx(drawn.expected_draws, abs=0.1)


@given(GROUPS)
def test_no_task_and_no_user_is_drawn_more_often_than_the_slice(
    groups: list[SampleGroup],
) -> None:
    (drawn,) = preview_mix(1, {"fresh": 1.0}, {"fresh": groups}).slices
    for expected in [*drawn.tasks.values(), *drawn.users.values()]:
        assert expected <= drawn.expected_draws + 0.01


@given(GROUPS)
def test_samples_visits_and_users_are_counted(groups: list[SampleGroup]) -> None:
    (drawn,) = preview_mix(1, {"fresh": 1.0}, {"fresh": groups}).slices
    assert drawn.num_samples == sum(group.num_samples for group in groups)
    assert drawn.num_sessions == len({group.session_key for group in groups})
    assert drawn.num_users == len({group.user for group in groups} - {None})
