"""The jobs that these tests look at: four for all of them, for what they cost is to start."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from ingest.database import open_engine, read, write
from ingest.settings import Settings
from ingest.tables import Placement, Shard
from tests.trainer.ranks.job import Task
from tests.trainer.ranks.jobs import Ended, Step, run_job, seen
from tests.trainer.runs import make_mix, make_tiny_samples
from trainer.causal_lm.family import CausalLMFamily
from trainer.journal.lease import mark_lost
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.tables import Run

SHORT_TIMEOUT_S = 3.0
BACK_TO_10 = ("rollback", {"checkpoint": "main-10", "hold_data": True})
TOUR = {
    2: [("set_lr", {"value": 0.02})],
    3: [("evaluate", {"suite": "smoke"})],
    4: [("set_mix", {"name": "fresh"})],
    5: [("freeze", {"modules": ["layers.9"]}), ("set_lr", {"factor": 1e6})],
    6: [("set_optimizer", {"weight_decay": 0.1, "max_grad_norm": 0.5})],
    7: [("reset_parameters", {"modules": ["layers.2"]})],
    32: [BACK_TO_10],
}


@dataclass
class Job:
    """One run of a job, and what is left of it."""

    task: Task
    engine: Engine
    steps: list[list[Step]]  # by rank
    ended: Ended


class Installs:
    """Makes installations, each with 40 samples in either of two mixes."""

    def __init__(self, migrated: Path, folder: Path) -> None:
        self._engines: dict[Path, Engine] = {}
        self._migrated, self._folder = migrated, folder

    def fresh(self, name: str) -> Path:
        data = self._folder / name
        data.mkdir()
        (data / "stovetop.db").write_bytes(self._migrated.read_bytes())
        with write(self.engine(data)) as session:
            for task in ("old", "fresh"):
                make_tiny_samples(session, task, 40)
            make_mix(session, "mix", old=1.0)
            make_mix(session, "fresh", fresh=1.0)
        return data

    def copy(self, data: Path, name: str) -> Path:
        return shutil.copytree(data, self._folder / name)

    def engine(self, data: Path) -> Engine:
        if data not in self._engines:
            self._engines[data] = open_engine(Settings(data=data).resolved_database_url)
        return self._engines[data]

    def job(self, task: Task, ended: Ended, num_ranks: int = 2) -> Job:
        steps = seen(task.data, task.name, num_ranks) if task.program == "buffer" else []
        return Job(task, self.engine(task.data), steps, ended)

    def close(self) -> None:
        for engine in self._engines.values():
            engine.dispose()


@pytest.fixture(scope="session")
def installs(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installs]:
    made = Installs(migrated, tmp_path_factory.mktemp("jobs"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def first_job(installs: Installs) -> dict[str, Job]:
    """Two ranks, past step 32, back to step 10 and on; then patience; then a rank is killed."""
    patient = Task(
        "patient",
        installs.fresh("patient"),
        script={5: [("pause", {})], 15: [BACK_TO_10]},
        timeout_s=SHORT_TIMEOUT_S,
        slow_s=1.5 * SHORT_TIMEOUT_S,
        resume_after_s=2 * SHORT_TIMEOUT_S,
        blind_rank=1,
    )
    own = {
        3: [("set_lr", {"value": 0.02})],
        4: [("evaluate", {"suite": "own"}), ("set_mix", {"name": "mix"})],
        26: [("rollback", {"checkpoint": "main-5", "hold_data": True})],
    }
    return ran(
        installs,
        [
            Task("tour", installs.fresh("tour"), script=TOUR),
            patient,
            Task("own", installs.fresh("own"), "own", script=own),
            Task("killed", installs.fresh("killed"), kill_rank=1, kill_at=26),
        ],
    )


@pytest.fixture(scope="session")
def second_job(installs: Installs, first_job: dict[str, Job]) -> dict[str, Job]:
    """The killed one goes on; the tour in shards; a rank finds a sample that it can't read."""
    killed = first_job["killed"]
    with write(killed.engine) as session:
        mark_lost(session, time.time())
    damaged = installs.fresh("damaged")
    newest, path = a_shard_of_two(installs.engine(damaged))
    in_shards = TOUR | {60: [("freeze", {"modules": ["layers.0"]})]}
    return ran(
        installs,
        [
            Task("again", installs.copy(killed.task.data, "again")),
            Task("shards", installs.fresh("shards"), script=in_shards, arguments={"fsdp": True}),
            Task("damaged", damaged, max_steps=20, damaged={newest: path}),
        ],
    )


def a_shard_of_two(engine: Engine) -> tuple[int, str]:
    """A new shard, by the number of a sample in it and by its path."""
    with write(engine) as session:
        make_tiny_samples(session, "old", 2)
    with read(engine) as session:
        newest = session.scalar(select(func.max(Placement.sample_number))) or 0
        by_newest = select(Shard).join(Placement).where(Placement.sample_number == newest)
        return newest, session.scalars(by_newest).one().path


@pytest.fixture(scope="session")
def third_job(installs: Installs, second_job: dict[str, Job]) -> dict[str, Job]:
    """The damaged one goes on; then the model raises on rank 0."""
    damaged = second_job["damaged"].task
    again = replace(damaged, name="whole", data=installs.copy(damaged.data, "whole"))
    return ran(
        installs,
        [
            again,
            Task("raising", installs.fresh("raising"), raise_rank=0, raise_at=12),
        ],
    )


@pytest.fixture(scope="session")
def four_ranks(installs: Installs) -> dict[str, Job]:
    """Four ranks, by accelerate; then a run that has taken all its steps, by its name."""
    finished = installs.fresh("finished")
    engine = installs.engine(finished)
    run = find_or_make_run(engine, "run", RunOptions(mix="mix"), CausalLMFamily())
    with write(engine) as session:
        session.get_one(Run, run.run_id).state = "finished"
    tasks = [
        Task("four", installs.fresh("four"), max_steps=34, script={32: [BACK_TO_10]}),
        Task("finished", finished, "by_name"),
    ]
    ended = run_job(4, tasks, "accelerate")
    return {task.name: installs.job(task, ended, 4) for task in tasks}


def ran(installs: Installs, tasks: list[Task]) -> dict[str, Job]:
    """A job of two ranks, by the names of its tasks."""
    ended = run_job(2, tasks)
    return {task.name: installs.job(task, ended) for task in tasks}
