"""Adoptions: which samples a run sees, from which step on."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pytest
from sqlalchemy import Engine, func, select

from ingest.buffer import bring_back, latest_revision, new_revision, retire, set_apart
from ingest.database import read, write
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.slices import SliceError, save_slice
from ingest.tables import Sample
from tests.factories import START, make_samples, make_session
from tests.trainer.neuralos.latents import REPRESENTATION, make_episode_with_latents
from tests.trainer.runs import NOW, make_run
from trainer.mix.adopt import Adopter, AdoptionPlan, policies
from trainer.mix.adoptions import write_adoption
from trainer.mix.cohorts import SliceChange
from trainer.mix.sampler import MixSampler
from trainer.mix.slice_sampler import SlicePolicy
from trainer.mix.stream import Stream
from trainer.neuralos.window_reader import WindowReader
from trainer.tables import Adoption, AdoptionChange, Branch

ENVIRONMENT = "drawn/1"
NAMES = ("fresh", "all")


@pytest.fixture
def adopter(engine: Engine) -> Adopter:
    with write(engine) as session:
        make_run(session)
        save_slice(session, "fresh", "task:open_browser", actor="test", now=NOW)
        save_slice(session, "all", "", actor="test", now=NOW)
    return Adopter(engine, "run", REPRESENTATION, ENVIRONMENT)


def fill(
    engine: Engine,
    *,
    tasks: Sequence[str] = (),
    num_samples: int = 3,
    user_id: str | None = None,
    ticks: Sequence[int | None] | None = None,
) -> list[int]:
    """Samples of one more episode, encoded; their numbers."""
    with write(engine) as session:
        owner = make_session(session, user_id=user_id)
        return list(
            make_samples(
                session,
                owner=owner,
                changes=[()] * num_samples,
                ticks_since_change=ticks,
                tasks=tasks,
                environment=ENVIRONMENT,
                representations=(REPRESENTATION,),
            )
        )


def take(engine: Engine, adopter: Adopter, branch: str, step: int) -> AdoptionPlan:
    """Adopt the newest revision and write it down."""
    plan = adopter.latest(NAMES)
    assert plan is not None
    write_down(engine, plan, branch, step)
    adopter.advance(plan)
    return plan


def write_down(engine: Engine, plan: AdoptionPlan, branch: str, step: int) -> None:
    adoption = Adoption(
        run_id="run",
        number=plan.number,
        branch=branch,
        effective_step=step,
        revision=plan.revision,
        adopted_at=NOW,
    )
    with write(engine) as session:
        write_adoption(session, adoption, plan.changes)


def make_branch(engine: Engine, name: str, parent: str, *, from_adoption: int) -> None:
    with write(engine) as session:
        branch = Branch(
            run_id="run",
            name=name,
            parent=parent,
            from_step=0,
            from_adoption=from_adoption,
            created_at=NOW,
        )
        session.add(branch)


def restored(engine: Engine, adopter: Adopter, branch: str, through: int) -> dict[str, list[int]]:
    with read(engine) as session:
        members = adopter.restore(session, branch, through)
    return {name: change.added.tolist() for name, change in members.items()}


def added(plan: AdoptionPlan | None) -> Mapping[str, list[int]]:
    assert plan is not None
    return {name: change.added.tolist() for name, change in plan.changes.items()}


# Planning


def test_the_first_plan_holds_all_members_of_the_slices(engine: Engine, adopter: Adopter) -> None:
    browsing, idle = fill(engine, tasks=["open_browser"]), fill(engine)
    plan = adopter.latest(NAMES)
    assert added(plan) == {"fresh": browsing, "all": browsing + idle}
    assert plan is not None
    assert (plan.number, plan.after) == (1, 0)
    with read(engine) as session:
        assert plan.revision == latest_revision(session)


def test_a_plan_tells_owners_and_lanes(engine: Engine, adopter: Adopter) -> None:
    fill(engine, user_id="ada", ticks=[None, 0, 23])
    fill(engine, user_id="ada", ticks=[24, 1, None])
    fill(engine)
    plan = adopter.latest(["all"])
    assert plan is not None
    change = plan.changes["all"]
    assert change.is_change.tolist() == [False, True, True, False, True, False, *[False] * 3]
    assert np.unique(change.owners[:6]).size == 1
    assert np.unique(change.owners).size == 2
    assert set(change.adopted.tolist()) == {1}


def test_there_is_no_plan_where_nothing_is_new(engine: Engine, adopter: Adopter) -> None:
    assert adopter.latest(NAMES) is None
    fill(engine)
    take(engine, adopter, "main", 1)
    assert adopter.latest(NAMES) is None


def test_a_later_plan_holds_only_what_changed(engine: Engine, adopter: Adopter) -> None:
    old = fill(engine, tasks=["open_browser"])
    take(engine, adopter, "main", 1)
    new = fill(engine)
    with write(engine) as session:
        revision = new_revision(session, "superseded", added=0, retired=3, now=START)
        retire(session, [session.get_one(Sample, old[0]).episode_id], revision)
    plan = adopter.latest(NAMES)
    assert added(plan) == {"fresh": [], "all": new}
    assert plan is not None
    assert {name: change.removed.tolist() for name, change in plan.changes.items()} == {
        "fresh": old,
        "all": old,
    }


def test_a_slice_that_is_new_to_the_run_is_planned_without_a_new_revision(
    engine: Engine, adopter: Adopter
) -> None:
    numbers = fill(engine)
    plan = adopter.latest(["fresh"])
    assert plan is None
    assert added(adopter.latest(["all"])) == {"all": numbers}


def test_an_edited_filter_is_planned_without_a_new_revision(
    engine: Engine, adopter: Adopter
) -> None:
    numbers = fill(engine, tasks=["create_folder"])
    take(engine, adopter, "main", 1)
    with write(engine) as session:
        save_slice(session, "fresh", "task:create_folder", actor="test", now=NOW)
    assert added(adopter.latest(NAMES)) == {"fresh": numbers}


def test_a_held_run_sees_slices_as_of_its_revision(engine: Engine, adopter: Adopter) -> None:
    numbers = fill(engine)
    with read(engine) as session:
        revision = latest_revision(session)
    fill(engine)
    assert added(adopter.at(["all"], revision)) == {"all": numbers}


def test_a_plan_older_than_what_the_run_stands_on_is_refused(
    engine: Engine, adopter: Adopter
) -> None:
    fill(engine)
    stale = adopter.latest(["all"])
    assert stale is not None
    take(engine, adopter, "main", 1)
    with pytest.raises(ValueError, match="builds on 0, the run stands on 1; plan it again"):
        adopter.advance(stale)


def test_a_number_is_given_once_even_before_it_is_written_down(
    engine: Engine, adopter: Adopter
) -> None:
    fill(engine)
    first = adopter.latest(["all"])
    assert first is not None
    adopter.advance(first)
    fill(engine)
    second = adopter.latest(["all"])
    assert second is not None
    assert (first.number, second.number) == (1, 2)


def test_an_unknown_slice_is_refused_by_name(adopter: Adopter) -> None:
    with pytest.raises(SliceError, match="'missing'"):
        adopter.latest(["missing"])


@pytest.mark.usefixtures("adopter")
def test_the_limits_of_slices_are_read_as_they_are_saved(engine: Engine) -> None:
    with write(engine) as session:
        save_slice(session, "fresh", "", actor="test", now=NOW, max_share_per_user=0.5, max_uses=4)
    with read(engine) as session:
        assert policies(session, NAMES) == {"fresh": SlicePolicy(0.5, 4), "all": SlicePolicy()}


# Recording


def test_writing_an_adoption_down_twice_leaves_it_there_once(
    engine: Engine, adopter: Adopter
) -> None:
    fill(engine)
    plan = adopter.latest(NAMES)
    assert plan is not None
    for _ in range(2):
        write_down(engine, plan, "main", 1)
    with read(engine) as session:
        assert session.scalar(select(func.count()).select_from(Adoption)) == 1
        assert session.scalar(select(AdoptionChange.num_added)) == 3


def test_a_recorded_adoption_is_the_plan_that_it_was(engine: Engine, adopter: Adopter) -> None:
    fill(engine, user_id="ada", ticks=[0, None, 30])
    plan = take(engine, adopter, "main", 1)
    with read(engine) as session:
        loaded = Adopter(engine, "run", REPRESENTATION, ENVIRONMENT).load(session, plan.number)
    assert (loaded.number, loaded.after, loaded.revision) == (1, 0, plan.revision)
    for name in ("added", "owners", "is_change", "adopted", "removed"):
        expected, found = (getattr(p.changes["all"], name) for p in (plan, loaded))
        np.testing.assert_array_equal(found, expected)


# The chain


def test_a_resumed_run_stands_where_its_checkpoint_did(engine: Engine, adopter: Adopter) -> None:
    first = fill(engine)
    take(engine, adopter, "main", 1)
    second = fill(engine)
    take(engine, adopter, "main", 10)
    resumed = Adopter(engine, "run", REPRESENTATION, ENVIRONMENT)
    assert restored(engine, resumed, "main", 1) == {"all": first}
    with read(engine) as session:
        after = resumed.recorded(session, "main", after=1)
    assert [(row.number, row.effective_step) for row in after] == [(2, 10)]
    assert added(resumed.latest(["all"])) == {"all": second}


def test_a_resumed_run_takes_recorded_adoptions_again_before_it_plans(
    engine: Engine, adopter: Adopter
) -> None:
    fill(engine)
    take(engine, adopter, "main", 1)
    second = fill(engine)
    take(engine, adopter, "main", 10)
    resumed = Adopter(engine, "run", REPRESENTATION, ENVIRONMENT)
    restored(engine, resumed, "main", 1)
    with read(engine) as session:
        again = resumed.load(session, 2)
    assert added(again) == {"all": second}
    resumed.advance(again)
    assert resumed.latest(NAMES) is None


def test_a_branch_sees_its_parents_adoptions_up_to_the_fork_and_its_own(
    engine: Engine, adopter: Adopter
) -> None:
    """main: 1, 2; from main at 1 the branch b1: 3, 4; from b1 at 3 the branch b2: 5."""
    cohorts = [fill(engine)]
    take(engine, adopter, "main", 1)
    cohorts.append(fill(engine))
    take(engine, adopter, "main", 10)
    make_branch(engine, "b1", "main", from_adoption=1)
    restored(engine, adopter, "b1", 1)
    take(engine, adopter, "b1", 6)
    cohorts.append(fill(engine))
    take(engine, adopter, "b1", 12)
    make_branch(engine, "b2", "b1", from_adoption=3)
    restored(engine, adopter, "b2", 3)
    cohorts.append(fill(engine))
    take(engine, adopter, "b2", 11)

    assert seen(engine, adopter, "main") == [1, 2]
    assert seen(engine, adopter, "b1") == [1, 3, 4]
    assert seen(engine, adopter, "b2") == [1, 3, 5]
    assert restored(engine, adopter, "b2", 5)["all"] == list(chain(*cohorts))
    assert restored(engine, adopter, "b2", 3)["all"] == cohorts[0] + cohorts[1]
    assert restored(engine, adopter, "main", 2)["all"] == cohorts[0] + cohorts[1]


def test_a_branch_from_before_the_first_adoption_begins_with_nothing(
    engine: Engine, adopter: Adopter
) -> None:
    numbers = fill(engine)
    take(engine, adopter, "main", 1)
    make_branch(engine, "b1", "main", from_adoption=0)
    assert restored(engine, adopter, "b1", 0) == {}
    assert added(take(engine, adopter, "b1", 1)) == {"all": numbers}
    assert seen(engine, adopter, "b1") == [2]


def test_a_checkpoint_of_another_line_is_refused(engine: Engine, adopter: Adopter) -> None:
    fill(engine)
    take(engine, adopter, "main", 1)
    make_branch(engine, "b1", "main", from_adoption=0)
    with pytest.raises(ValueError, match="branch 'b1' has not seen adoption 1"):
        restored(engine, adopter, "b1", 1)


def seen(engine: Engine, adopter: Adopter, branch: str) -> list[int]:
    with read(engine) as session:
        return [row.number for row in adopter.recorded(session, branch, after=0)]


# Buffer to batch


def test_what_the_buffer_takes_in_can_be_in_the_very_next_batch(
    engine: Engine, settings: Settings, adopter: Adopter
) -> None:
    reader = WindowReader(engine, open_store(settings), REPRESENTATION)
    mix = {"all": 1.0}, {"all": SlicePolicy(max_share_per_user=1.0)}
    with Stream(MixSampler(mix[0], 7, mix[1]), reader, batch_size=4) as stream:
        with write(engine) as session:
            old = make_episode_with_latents(session, open_store(settings), 4)
        stream.adopt(take(engine, adopter, "main", 1))
        assert sorted(stream.next_batch().numbers.tolist()) == list(old)
        with write(engine) as session:
            new = make_episode_with_latents(session, open_store(settings), 4)
        stream.adopt(take(engine, adopter, "main", 2))
        batch = stream.next_batch()
        assert sorted(batch.numbers.tolist()) == list(new)
        assert batch.arrays["latents"][:, -1, 0, 0, 0].tolist() == batch.numbers.tolist()


def test_samples_that_were_made_anew_are_drawn_again(engine: Engine, adopter: Adopter) -> None:
    numbers = fill(engine)
    sampler = MixSampler({"all": 1.0}, 7, {"all": SlicePolicy(max_share_per_user=1.0)})

    def adopt(step: int) -> SliceChange:
        plan = take(engine, adopter, "main", step)
        sampler.adopt(plan.number, {"all": plan.changes["all"]})
        return plan.changes["all"]

    adopt(1)
    with write(engine) as session:
        set_apart(session, Sample.number == numbers[0], now=NOW)
    assert adopt(2).removed.tolist() == numbers[:1]
    assert numbers[0] not in sampler.draw(2).numbers
    with write(engine) as session:
        revision = new_revision(session, "repaired", added=1, retired=0, now=NOW)
        bring_back(session, numbers[:1], revision)
    assert adopt(3).added.tolist() == numbers[:1]
    assert sorted(sampler.draw(3).numbers.tolist()) == numbers


def test_neither_a_user_nor_a_session_of_one_gets_more_than_its_share(
    engine: Engine, adopter: Adopter
) -> None:
    """Two sessions want a slice to be theirs: a user's among other sessions of his, a stranger's.

    With L of each in a pass and twelve others whole, L = 0.1 * (60 + 2 * L): 7.
    """
    for user in range(12):
        fill(engine, num_samples=5, user_id=f"user-{user}")
    flood = fill(engine, num_samples=400, user_id="mallory")
    beside = fill(engine, num_samples=40, user_id="mallory")
    nameless = fill(engine, num_samples=300)
    sampler = MixSampler({"all": 1.0}, 7, {"all": SlicePolicy(max_share_per_user=0.1)})
    plan = take(engine, adopter, "main", 1)
    sampler.adopt(plan.number, {"all": plan.changes["all"]})
    in_a_pass = 12 * 5 + 2 * 7
    for _ in range(10):
        drawn = sampler.draw(in_a_pass).numbers
        assert np.isin(drawn, flood).sum() <= 7
        assert np.isin(drawn, flood + beside).sum() == 7
        assert np.isin(drawn, nameless).sum() == 7
