"""What `ingest.slices` promises."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ingest.buffer import latest_revision, new_revision, retire
from ingest.database import read, write
from ingest.filters import FilterError
from ingest.slices import (
    Members,
    SliceError,
    get_mix,
    list_slices,
    members,
    preview,
    save_mix,
    save_slice,
    shares_of,
)
from ingest.tables import Sample, Slice
from tests.factories import START, make_samples, make_session, place_samples

LATENT = "latent:abc"


def save(session: Session, name: str = "fresh", filter_text: str = "", **caps: float) -> Slice:
    return save_slice(session, name, filter_text, actor="ann", now=START, **caps)


def members_now(session: Session, name: str = "fresh", **wanted: object) -> Members:
    defaults = {
        "revision": latest_revision(session),
        "representation": "frame",
        "environment": "drawn/1",
    }
    return members(session, name, **(defaults | wanted))


def test_a_saved_slice_is_listed_by_name(engine: Engine) -> None:
    with write(engine) as session:
        save(session, "old", "age>7d")
        save(session, "fresh", "age<7d")
        listed = [(s.name, s.filter, s.max_share_per_user) for s in list_slices(session)]
        assert listed == [("fresh", "age<7d", 0.10), ("old", "age>7d", 0.10)]


def test_saving_a_slice_again_changes_it(engine: Engine) -> None:
    with write(engine) as session:
        save(session, filter_text="task:a")
        save(session, filter_text="task:b", max_share_per_user=0.5, max_uses=3)
    with read(engine) as session:
        saved = session.get_one(Slice, "fresh")
        assert (saved.filter, saved.max_share_per_user, saved.max_uses) == ("task:b", 0.5, 3)


@pytest.mark.parametrize("name", ["", "Fresh", "a b", "a" * 65, "../a", "fresh\n"])
def test_a_slice_has_a_plain_name(engine: Engine, name: str) -> None:
    with write(engine) as session, pytest.raises(SliceError, match="1 to 64 of a-z"):
        save(session, name)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_users_share_lies_between_nothing_and_all(engine: Engine, share: float) -> None:
    with write(engine) as session, pytest.raises(SliceError, match="max_share_per_user"):
        save(session, max_share_per_user=share)


def test_a_sample_may_be_used_at_least_once(engine: Engine) -> None:
    with write(engine) as session, pytest.raises(SliceError, match="max_uses"):
        save(session, max_uses=0)


def test_a_slice_with_a_bad_filter_is_not_saved(engine: Engine) -> None:
    with write(engine) as session, pytest.raises(FilterError):
        save(session, filter_text="tsk:a")
    with read(engine) as session:
        assert list_slices(session) == []


def test_a_mix_is_stored_with_shares_that_sum_to_one(engine: Engine) -> None:
    with write(engine) as session:
        save(session, "fresh")
        save(session, "old")
        mix = save_mix(session, "main", {"fresh": 1, "old": 3}, actor="ann", now=START)
        assert shares_of(mix) == {"fresh": 0.25, "old": 0.75}


def test_an_edit_of_a_mix_is_its_next_version(engine: Engine) -> None:
    with write(engine) as session:
        save(session, "fresh")
        save(session, "old")
        for shares in ({"fresh": 1.0}, {"old": 1.0}):
            save_mix(session, "main", shares, actor="ann", now=START)
        assert get_mix(session, "main").version == 2
        assert shares_of(get_mix(session, "main", 1)) == {"fresh": 1.0}


@pytest.mark.parametrize("version", [None, 7])
def test_a_mix_that_is_not_there_is_named(engine: Engine, version: int | None) -> None:
    with read(engine) as session, pytest.raises(SliceError, match="no mix 'main'"):
        get_mix(session, "main", version)


@pytest.mark.parametrize(
    ("shares", "fault"),
    [
        ({"fresh": -0.1, "old": 1.0}, "shares.fresh"),
        ({"fresh": math.nan}, "shares.fresh"),
        ({"old": math.inf}, "shares.old"),
        ({"new": 1.0}, "shares.new"),
        ({"fresh": 0.0, "old": 0.0}, "shares"),
        ({}, "shares"),
        ({"fresh": 1.7e308, "old": 1.7e308}, "shares"),
    ],
)
def test_a_bad_share_is_named(engine: Engine, shares: dict[str, float], fault: str) -> None:
    with write(engine) as session:
        save(session, "fresh")
        save(session, "old")
        with pytest.raises(SliceError) as raised:
            save_mix(session, "main", shares, actor="ann", now=START)
    assert raised.value.field == fault


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(["train", "eval"]), st.sampled_from(["", "retire", "encode"])),
        max_size=4,
    )
)
def test_membership_at_a_revision_never_changes_afterwards(
    engine: Engine, changes: list[tuple[str, str]]
) -> None:
    with write(engine) as session:
        save(session)
        seen = {}
        for split, then in changes:
            owner = make_session(session, split=split)
            numbers = make_samples(session, owner=owner)
            revision = new_revision(session, then or "replayed", added=0, retired=0, now=START)
            if then == "retire":
                retire(session, [session.get_one(Sample, numbers[0]).episode_id], revision)
            if then == "encode":
                place_samples(session, numbers, LATENT, revision, now=START)
            for representation in ("frame", LATENT):
                now = members_now(session, representation=representation)
                seen[latest_revision(session), representation] = now.numbers.tolist()
        for (revision, representation), numbers in seen.items():
            again = members_now(session, revision=revision, representation=representation)
            assert again.numbers.tolist() == numbers
        session.rollback()  # the next example finds the database empty again


def test_only_the_train_split_is_ever_a_member(engine: Engine) -> None:
    with write(engine) as session:
        save(session, filter_text="split:eval")
        save(session, "all")
        make_samples(session, owner=make_session(session, split="eval"))
        kept = make_samples(session)
        assert members_now(session).numbers.tolist() == []
        assert members_now(session, "all").numbers.tolist() == list(kept)


def test_a_member_has_a_place_in_the_representation(engine: Engine) -> None:
    with write(engine) as session:
        save(session)
        make_samples(session)
        encoded = make_samples(session, representations=["frame", LATENT])
        assert members_now(session, representation=LATENT).numbers.tolist() == list(encoded)


def test_a_member_is_of_the_wanted_environment(engine: Engine) -> None:
    with write(engine) as session:
        save(session)
        make_samples(session)
        other = make_samples(session, environment="xfce/1")
        assert members_now(session, environment="xfce/1").numbers.tolist() == list(other)


def test_ages_count_from_the_revisions_own_time(engine: Engine) -> None:
    with write(engine) as session:
        save(session, filter_text="age<1h")
        early = make_samples(session, now=START + 10)
        late = make_samples(session, owner=make_session(session, start=START + 7200),
                            now=START + 7210)  # fmt: skip
        assert members_now(session, revision=1).numbers.tolist() == list(early)
        assert members_now(session, revision=2).numbers.tolist() == list(late)


def test_the_last_24_ticks_after_a_change_are_its_lane(engine: Engine) -> None:
    with write(engine) as session:
        save(session)
        make_samples(session, changes=[[]] * 4, ticks_since_change=[None, 0, 23, 24])
        assert members_now(session).is_change.tolist() == [False, True, True, False]


def test_owners_are_users_and_visits_where_there_is_no_user(engine: Engine) -> None:
    with write(engine) as session:
        save(session)
        for user_id, source in (("ann", "a"), ("ann", "a"), ("ann", "b"), (None, "a"), (None, "a")):
            owner = make_session(session, user_id=user_id, source=source)
            make_samples(session, owner=owner, changes=[[]])
        owners = members_now(session).owners.tolist()
    assert owners[0] == owners[1]
    assert len(set(owners[1:])) == 4
    assert min(owners) >= 0


def test_an_unknown_slice_is_named(engine: Engine) -> None:
    with read(engine) as session, pytest.raises(SliceError, match="no slice 'fresh'"):
        members_now(session)


def test_a_preview_shares_a_thousand_draws_by_slice_and_task(engine: Engine) -> None:
    with write(engine) as session:
        save(session, "browser", "task:open_browser")
        save(session, "rest", "-task:open_browser")
        ann = make_session(session, user_id="ann")
        make_samples(session, owner=ann, tasks=["open_browser", "type_text"])
        make_samples(session, changes=[[]])
        revision = latest_revision(session)
        browser, rest = preview(session, {"browser": 3, "rest": 1}, revision=revision).slices
    assert (browser.share, browser.expected_draws) == (0.75, 750)
    assert browser.tasks == {"open_browser": 750, "type_text": 750}
    assert browser.users == {"ann": 750}
    assert browser.ages == {"1h": 750, "1d": 0, "7d": 0, "older": 0}
    assert (browser.num_samples, browser.num_sessions, browser.num_users) == (3, 1, 1)
    assert browser.newest_timestamp == START + 0.5
    assert (rest.expected_draws, rest.tasks, rest.num_users) == (250, {}, 0)


def test_a_preview_draws_half_of_a_slice_near_changes(engine: Engine) -> None:
    with write(engine) as session:
        save(session)
        make_samples(session, tasks=["plain"], changes=[[]] * 9)
        make_samples(session, tasks=["change"], changes=[[]], ticks_since_change=[0])
        (drawn,) = preview(session, {"fresh": 1}, revision=latest_revision(session)).slices
    assert drawn.tasks == {"plain": 500, "change": 500}


def test_a_preview_gives_an_empty_slices_share_to_the_others(engine: Engine) -> None:
    with write(engine) as session:
        save(session, "fresh")
        save(session, "none", "source:nowhere")
        make_samples(session)
        shares = {"fresh": 0.2, "none": 0.8}
        fresh, none = preview(session, shares, revision=latest_revision(session)).slices
    assert (fresh.share, fresh.expected_draws) == (0.2, 1000)
    assert (none.expected_draws, none.newest_timestamp) == (0, None)


def test_a_preview_of_an_empty_buffer_expects_nothing(engine: Engine) -> None:
    with write(engine) as session:
        save(session)
        (empty,) = preview(session, {"fresh": 1}, revision=0).slices
    assert (empty.num_samples, empty.expected_draws) == (0, 0)


def test_a_preview_names_an_unknown_slice(engine: Engine) -> None:
    with read(engine) as session, pytest.raises(SliceError, match="no slice of this name"):
        preview(session, {"gone": 1.0}, revision=0)
