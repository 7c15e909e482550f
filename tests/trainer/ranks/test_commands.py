"""Commands on several ranks: the same at the same step on each, exactly."""

import json

import pytest
from sqlalchemy import select

from ingest.database import read
from tests.trainer.asking import commands, metric, the_run
from tests.trainer.ranks.conftest import Job
from tests.trainer.ranks.jobs import whole
from trainer.mix.cohorts import unpack_numbers
from trainer.tables import Checkpoint, Command, Evaluation
from trainer.tables import Step as StepRow


@pytest.fixture
def tour(first_job: dict[str, Job]) -> Job:
    """Past step 32, back to step 10, and on to 40."""
    return first_job["tour"]


def row(job: Job, kind: str) -> Command:
    return next(command for command in commands(job.engine) if command.kind == kind)


def lr_by_step(job: Job) -> list[list[float]]:
    return [[step.lr for step in steps] for steps in job.steps]


def test_every_rank_takes_a_command_s_effect_at_the_same_step(tour: Job) -> None:
    first, second = lr_by_step(tour)
    effective = row(tour, "set_lr").effective_step
    assert effective == 3  # it came amid step 2
    assert first == second
    assert first[1:3] == [0.01, 0.02]


def test_a_step_that_begins_after_a_command_was_received_runs_under_it(tour: Job) -> None:
    with read(tour.engine) as session:
        started = {
            step.step: step.started_at
            for step in session.scalars(select(StepRow).where(StepRow.branch == "main"))
        }
    asked = [c for c in commands(tour.engine) if c.state == "applied" and c.kind != "rollback"]
    assert len(asked) == 5
    for command in asked:
        stale = [
            step
            for step, at in started.items()
            if at > (command.received_at or 0) and step < (command.effective_step or 0)
        ]
        assert stale == [], command.kind


def test_the_ranks_share_each_step_s_samples_as_they_are_recorded(tour: Job) -> None:
    with read(tour.engine) as session:
        rows = session.scalars(
            select(StepRow).where(StepRow.branch == "main").order_by(StepRow.step)
        )
        recorded = [unpack_numbers(step.samples).tolist() for step in rows]
    drawn = [whole([step.ids for step in steps]) for steps in zip(*tour.steps, strict=True)]
    assert recorded == drawn[: len(recorded)]
    assert all(len(set(step)) == 8 for step in drawn)


def test_the_next_batch_of_every_rank_is_of_the_new_mix(tour: Job) -> None:
    effective = row(tour, "set_mix").effective_step or 0
    for steps in tour.steps:
        mixes = [min(step.ids) > 40 for step in steps]
        assert mixes[:20] == [False] * (effective - 1) + [True] * (21 - effective)


def test_the_recorded_loss_is_the_mean_over_the_ranks(tour: Job) -> None:
    means = [sum(step.loss for step in steps) / 2 for steps in zip(*tour.steps, strict=True)]
    recorded = list(metric(tour.engine, "loss").values())
    assert recorded == means[: len(recorded)]


def test_a_rollback_repeats_every_rank_s_losses_and_samples_bit_for_bit(tour: Job) -> None:
    applied = row(tour, "rollback")
    tip = json.loads(applied.before_json or "{}")["step"]
    for steps in tour.steps:
        assert len(steps) == tip + 30
        again = [(s.ids, s.loss) for s in steps[tip : tip + 20]]
        assert again == [(s.ids, s.loss) for s in steps[10:30]]


def test_a_command_that_is_refused_changes_no_rank_and_the_run_goes_on(tour: Job) -> None:
    refused = [c for c in commands(tour.engine) if c.state == "rejected"]
    assert [c.kind for c in refused] == ["freeze", "set_lr"]
    assert the_run(tour.engine).state == "finished"


def test_evaluate_asks_for_a_verified_checkpoint_of_all_ranks_to_be_judged(tour: Job) -> None:
    asked = row(tour, "evaluate")
    with read(tour.engine) as session:
        evaluation = session.scalars(select(Evaluation)).one()
        checkpoint = session.get_one(Checkpoint, evaluation.checkpoint_id)
    assert (asked.state, evaluation.command_id) == ("applied", asked.command_id)
    assert (evaluation.suite, evaluation.state) == ("smoke", "waiting")
    assert checkpoint.step == 3
    names = {path.name for path in (tour.task.data / "runs" / checkpoint.path).iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= names


def test_four_ranks_that_accelerate_started_repeat_twenty_steps_after_a_rollback(
    four_ranks: dict[str, Job],
) -> None:
    job = four_ranks["four"]
    assert the_run(job.engine).state == "finished", job.ended.log[-3000:]
    assert len(job.steps) == 4
    for steps in job.steps:
        assert [(s.ids, s.loss) for s in steps[-24:-4]] == [(s.ids, s.loss) for s in steps[10:30]]
    drawn = [whole([step.ids for step in steps]) for steps in zip(*job.steps, strict=True)]
    assert all(len(set(step)) == 8 for step in drawn)
