"""A process that trains the run called `run` and kills itself with SIGKILL.

It is forked by a server that has imported torch already, which would take most of the test's time.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, func, select

from ingest.database import open_engine, read
from ingest.settings import Settings
from tests.trainer.asking import Asked, asking, the_run
from tests.trainer.runs import add_samples
from tests.trainer.tiny import TinyFamily
from tests.waiting import wait_until
from trainer.health.policy import Policy
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train
from trainer.tables import Step

NUM_AT_START = 80


@dataclass
class DoomedFamily(TinyFamily):
    """Dies in the midst of its n-th checkpoint, where told to."""

    die_in_checkpoint: int = 0
    num_checkpoints: int = 0

    def write_config(self, folder: Path) -> None:
        self.num_checkpoints += 1
        if self.num_checkpoints == self.die_in_checkpoint:
            die()
        super().write_config(folder)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def num_recorded(engine: Engine) -> int:
    with read(engine) as session:
        return session.scalar(select(func.count()).select_from(Step)) or 0


def is_paused(engine: Engine) -> bool:
    return the_run(engine).state == "paused"


@dataclass(frozen=True, kw_only=True)
class Doom:
    """What happens to the run before its process dies, and when that is.

    In step `die_at`, or later once a sample of `samples_at` was drawn, when SQL holds all steps
    before; or in the midst of the n-th checkpoint; or when the run is paused, or on a branch.
    """

    script: Mapping[int, list[Asked]] = field(default_factory=dict)
    samples_at: int | None = None
    die_at: int = 100_000
    die_in_checkpoint: int = 0
    die_when_paused: bool = False
    die_on_branch: str | None = None
    lr: float | None = None
    policy: Policy | None = None


def train_to_death(settings: Settings, doom: Doom) -> None:
    """Train in a process of its own; returns when it is dead, as it should be by SIGKILL."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    child = processes.Process(target=_train, args=(settings, doom))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def _train(settings: Settings, doom: Doom) -> None:
    engine = open_engine(settings.resolved_database_url)
    family = DoomedFamily(die_in_checkpoint=doom.die_in_checkpoint, save_every=16)
    ask = asking(engine, doom.script)

    def is_time(count: int) -> bool:
        if count < doom.die_at:
            return False
        drawn = (number for step in family.witness.steps for number in step.ids)
        return doom.samples_at is None or max(drawn) > NUM_AT_START

    def during(count: int) -> None:
        ask(count)
        if count == doom.samples_at:
            add_samples(engine, "old", 8)
        if is_time(count):
            wait_until(lambda: num_recorded(engine) == count - 1)
            die()

    def is_doomed() -> bool:
        return is_paused(engine) or the_run(engine).branch == doom.die_on_branch

    def die_then() -> None:
        wait_until(is_doomed)
        die()

    family.witness.during = during
    options = RunOptions(max_steps=100_000, mix="mix", lr=doom.lr)
    run = find_or_make_run(engine, "run", options, family)
    if doom.die_when_paused or doom.die_on_branch:
        threading.Thread(target=die_then, daemon=True).start()
    with family.witness.watching():
        train(Workplace(engine, settings, threading.Event(), doom.policy), run, family)
