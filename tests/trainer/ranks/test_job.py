"""Several ranks under torchrun: one run, the same commands at the same step, exactly."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import Engine, func, select

from ingest.database import open_engine, read, write
from ingest.settings import Settings
from ingest.tables import Placement, Shard
from tests.trainer.asking import commands, metric, the_run
from tests.trainer.ranks.job import RankFamily, Scenario
from tests.trainer.ranks.jobs import Step, launch, run_job, seen, whole
from tests.trainer.runs import make_mix, make_tiny_samples
from tests.trainer.tiny import Witness
from trainer.journal.lease import mark_lost
from trainer.mix.cohorts import unpack_numbers
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train
from trainer.tables import Checkpoint, Command
from trainer.tables import Step as StepRow

SHORT_TIMEOUT_S = 4.0


@dataclass
class Job:
    """A job that ran, and what is left of it."""

    engine: Engine
    steps: list[list[Step]]  # by rank


@pytest.fixture(scope="module")
def installation(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Install]":
    made = Install(migrated, tmp_path_factory.mktemp("jobs"))
    yield made
    for engine in made.engines:
        engine.dispose()


class Install:
    """Makes installations, each with 40 samples in either of two mixes."""

    def __init__(self, migrated: Path, folder: Path) -> None:
        self.engines: list[Engine] = []
        self._migrated, self._folder = migrated, folder

    def fresh(self, name: str) -> Settings:
        data = self._folder / name
        data.mkdir()
        (data / "stovetop.db").write_bytes(self._migrated.read_bytes())
        settings = Settings(data=data)
        with write(self.engine(settings)) as session:
            for task in ("old", "fresh"):
                make_tiny_samples(session, task, 40)
            make_mix(session, "mix", old=1.0)
            make_mix(session, "fresh", fresh=1.0)
        return settings

    def engine(self, settings: Settings) -> Engine:
        self.engines.append(open_engine(settings.resolved_database_url))
        return self.engines[-1]

    def ran(self, num_ranks: int, scenario: Scenario) -> Job:
        settings = self.fresh(scenario.name)
        code = run_job(settings.data, num_ranks, scenario)
        assert code == 0, (settings.data / f"{scenario.name}.log").read_text()[-3000:]
        return Job(self.engine(settings), seen(settings.data, scenario.name, num_ranks))


TOUR = {
    2: [("set_lr", {"value": 0.02})],
    4: [("set_mix", {"name": "fresh"})],
    5: [("freeze", {"modules": ["layers.9"]}), ("set_lr", {"factor": 1e6})],
    6: [("set_optimizer", {"weight_decay": 0.1, "max_grad_norm": 0.5})],
    7: [("reset_parameters", {"modules": ["layers.2"]})],
    32: [("rollback", {"checkpoint": "main-10", "hold_data": True})],
}


@pytest.fixture(scope="module")
def tour(installation: Install) -> Job:
    """Two ranks: past step 32, back to step 10, and on to 40."""
    return installation.ran(2, Scenario("tour", 40, TOUR))


def lr_by_step(job: Job) -> list[list[float]]:
    return [[step.lr for step in steps] for steps in job.steps]


def checkpoint_folder(job: Job, name: str) -> Path:
    with read(job.engine) as session:
        path = session.scalars(select(Checkpoint.path).where(Checkpoint.name == name)).one()
    assert job.engine.url.database is not None
    return Path(job.engine.url.database).parent / "runs" / path


def row(job: Job, kind: str) -> Command:
    return next(command for command in commands(job.engine) if command.kind == kind)


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
    assert len(asked) == 4
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


def test_a_checkpoint_holds_the_generators_of_every_rank(tour: Job) -> None:
    folder = checkpoint_folder(tour, "main-10")
    names = {path.name for path in folder.iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "model.safetensors", "optimizer.pt"} <= names
    states = [(folder / f"rng_state_{rank}.pth").read_bytes() for rank in range(2)]
    assert states[0] != states[1]


def test_four_ranks_repeat_twenty_steps_after_a_rollback_as_well(installation: Install) -> None:
    script = {32: [("rollback", {"checkpoint": "main-10", "hold_data": True})]}
    job = installation.ran(4, Scenario("four", 34, script))
    assert len(job.steps) == 4
    for steps in job.steps:
        assert [(s.ids, s.loss) for s in steps[-24:-4]] == [(s.ids, s.loss) for s in steps[10:30]]


@pytest.fixture(scope="module")
def patient(installation: Install) -> Job:
    """A slow checkpoint, a pause, and a rollback to what rank 1 does not find on its disk."""
    script = {
        5: [("pause", {})],
        15: [("rollback", {"checkpoint": "main-10", "hold_data": True})],
    }
    pause_s = 2 * SHORT_TIMEOUT_S
    scenario = Scenario(
        "patient",
        40,
        script,
        timeout_s=SHORT_TIMEOUT_S,
        slow_s=1.5 * SHORT_TIMEOUT_S,
        resume_after_s=pause_s,
        blind_rank=1,
    )
    return installation.ran(2, scenario)


def test_a_pause_longer_than_the_timeout_breaks_nothing(patient: Job) -> None:
    pause, resume, _rollback = commands(patient.engine)
    assert (pause.state, resume.state) == ("applied", "applied")
    assert (resume.received_at or 0) - (pause.settled_at or 0) > 1.5 * SHORT_TIMEOUT_S
    assert the_run(patient.engine).state == "finished"


def test_a_checkpoint_that_one_rank_can_t_read_fails_the_rollback_on_all(patient: Job) -> None:
    failed = row(patient, "rollback")
    assert failed.state == "failed"
    assert "rank 1: CheckpointDamaged" in (failed.error or "")
    assert [len(steps) for steps in patient.steps] == [40, 40]
    assert list(metric(patient.engine, "loss")) == list(range(1, 41))


def test_a_rank_that_is_killed_loses_the_job_and_a_restart_goes_on_exactly(
    installation: Install, patient: Job
) -> None:
    """As if nothing had been: a pause and a rollback that failed have changed nothing either."""
    settings = installation.fresh("killed")
    engine = installation.engine(settings)
    code = run_job(settings.data, 2, Scenario("killed", 40, kill_rank=1, kill_at=26))
    assert code != 0
    with write(engine) as session:
        mark_lost(session, time.time())
    assert the_run(engine).state == "lost"
    alone = shutil.copytree(settings.data, settings.data.with_name("alone"))
    assert run_job(settings.data, 2, Scenario("again", 40)) == 0
    for again, steps in zip(seen(settings.data, "again", 2), patient.steps, strict=True):
        assert [(s.ids, s.loss) for s in again] == [(s.ids, s.loss) for s in steps[20:]]
    assert metric(engine, "loss") == metric(patient.engine, "loss")
    assert the_run(engine).state == "finished"
    drawn = [whole([s.ids for s in shares]) for shares in zip(*patient.steps, strict=True)]
    assert goes_on_alone(installation, Settings(data=alone)) == drawn[20:]


def goes_on_alone(installation: Install, settings: Settings) -> list[list[int]]:
    """One process takes up what two had; the samples of its steps."""
    engine = installation.engine(settings)
    witness = Witness()
    family = RankFamily(witness=witness)
    run = find_or_make_run(engine, "run", RunOptions(max_steps=40, mix="mix"), family)
    with witness.watching():
        assert train(Workplace(engine, settings, threading.Event()), run, family) == "finished"
    return [step.ids for step in witness.steps]


def test_a_shard_that_one_rank_can_t_read_is_set_apart_and_a_restart_goes_on(
    installation: Install,
) -> None:
    settings = installation.fresh("damaged")
    engine = installation.engine(settings)
    with write(engine) as session:
        make_tiny_samples(session, "old", 2)
    with read(engine) as session:
        newest = session.scalar(select(func.max(Placement.sample_number))) or 0
        shard = session.scalars(
            select(Shard).join(Placement).where(Placement.sample_number == newest)
        ).one()
    scenario = Scenario("damaged", 20, damaged={newest: shard.path})
    assert run_job(settings.data, 2, scenario) != 0
    assert the_run(engine).state == "lost"
    assert "set apart" in (settings.data / "damaged.log").read_text()
    assert run_job(settings.data, 2, scenario) == 0
    with read(engine) as session:
        assert session.get_one(Shard, shard.shard_id).state == "quarantined"
    assert the_run(engine).state == "finished"
    assert list(metric(engine, "loss")) == list(range(1, 21))


def test_anybody_s_trainer_is_steered_on_several_ranks_and_draws_as_the_plain_one(
    installation: Install,
) -> None:
    settings = installation.fresh("own")
    script = {
        3: [("set_lr", {"value": 0.02})],
        4: [("evaluate", {"suite": "own"}), ("set_mix", {"name": "mix"})],
        26: [("rollback", {"checkpoint": "main-5", "hold_data": True})],
    }
    code = launch("own_job.py", 2, settings.data, "own", json.dumps(script))
    assert code == 0, (settings.data / "own.log").read_text()[-3000:]
    done = commands(installation.engine(settings))
    assert [c.state for c in done] == ["applied", "applied", "rejected", "applied"]
    tip = json.loads(done[3].before_json or "{}")["step"]
    for rank in range(2):
        seen_here = json.loads((settings.data / f"own-{rank}.json").read_text())
        assert seen_here["indices"][: len(seen_here["plain"])] == seen_here["plain"]
        assert seen_here["rates"][2:4] == [0.01, 0.02]
        for name in ("indices", "losses"):
            assert seen_here[name][tip : tip + 20] == seen_here[name][5:25]


@pytest.fixture(scope="module")
def sharded(installation: Install) -> Job:
    """FSDP2 on two ranks: the same tour, and a frozen module at its end."""
    script = TOUR | {60: [("freeze", {"modules": ["layers.0"]})]}
    return installation.ran(2, Scenario("sharded", 40, script, arguments={"fsdp": True}))


def test_fsdp2_really_shards_the_parameters_in_training(sharded: Job, tour: Job) -> None:
    assert {step.kind for steps in sharded.steps for step in steps} == {"DTensor"}
    assert {step.kind for steps in tour.steps for step in steps} == {"Parameter"}
    assert set(metric(sharded.engine, "update_ratio").values()) <= {None}


def test_a_rollback_of_a_sharded_model_is_exact(sharded: Job) -> None:
    for steps in sharded.steps:
        tip = len(steps) - 30
        again = [(s.ids, s.loss) for s in steps[tip : tip + 20]]
        assert again == [(s.ids, s.loss) for s in steps[10:30]]


def test_a_sharded_model_learns_what_a_whole_one_does_under_the_same_commands(
    sharded: Job, tour: Job
) -> None:
    """A module that starts anew has the same values, too, however many ranks have shards of it."""
    for name in ("lr", "loss", "grad_norm"):
        expected = metric(tour.engine, name)
        assert metric(sharded.engine, name) == pytest.approx(expected, rel=1e-4), name


def test_a_sharded_model_s_checkpoint_looks_like_any_other(sharded: Job, tour: Job) -> None:
    assert contents(sharded) == contents(tour)


def contents(job: Job) -> dict[str, Any]:
    """Shapes and names of what the checkpoint of step 10 holds."""
    folder = checkpoint_folder(job, "main-10")
    optimizer = torch.load(folder / "optimizer.pt", weights_only=True)
    moments = {
        index: {name: (type(value), value.shape) for name, value in state.items()}
        for index, state in optimizer["state"].items()
    }
    groups = [group["params"] for group in optimizer["param_groups"]]
    model = load_file(folder / "model.safetensors")
    files = sorted(path.name for path in folder.iterdir())
    return {
        "files": files,
        "moments": moments,
        "groups": groups,
        "model": {name: tensor.shape for name, tensor in model.items()},
    }
