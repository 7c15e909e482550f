"""One rank of a job: does its tasks one after the other, and writes down what it saw.

`torchrun --nproc-per-node N tests/trainer/ranks/job.py TASKS`, where TASKS is JSON: importing torch
takes longer than a task, so a job has several. The exit code is that of the last one.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from sqlalchemy import Engine
from torch.optim.optimizer import Optimizer

from ingest.database import open_engine, read
from ingest.settings import Settings
from tests.trainer.asking import Asked, ask_now, asking, the_run
from tests.trainer.doomed import num_recorded
from tests.trainer.ranks.own_job import train_own
from tests.trainer.tiny import TinyFamily, Witness
from tests.waiting import wait_until
from trainer.family import Tensors
from trainer.mix.stream import Arrays
from trainer.ranks.group import join
from trainer.run.__main__ import main as train_by_name
from trainer.run.rows import RunOptions, agreed_run, find_or_make_run
from trainer.run.training import Workplace, train
from trainer.tables import Run

HUNG_AFTER_S = 120.0  # a job's log then says where each rank stands


@dataclass(frozen=True)
class Task:
    """What is asked during rank 0's n-th step of the run called `run`, and what befalls a rank.

    `own` trains somebody's own Trainer instead, and `by_name` is `python -m trainer.run`.
    """

    name: str
    data: Path
    program: Literal["buffer", "own", "by_name"] = "buffer"
    max_steps: int = 40
    script: dict[int, list[Asked]] = field(default_factory=dict)
    timeout_s: float = 60.0
    arguments: dict[str, Any] = field(default_factory=dict)
    kill_rank: int | None = None
    kill_at: int = 0
    raise_rank: int | None = None
    raise_at: int = 0
    resume_after_s: float = 0.0  # once it is paused
    blind_rank: int | None = None  # whose checkpoints are all damaged
    slow_s: float = 0.0  # how long the first checkpoint takes rank 0
    damaged: dict[int, str] = field(default_factory=dict)  # shards by the samples they can't give


TASKS: TypeAdapter[list[Task]] = TypeAdapter(list[Task])


@dataclass
class RankFamily(TinyFamily):
    """Whose ranks draw different numbers of random numbers, so that each has its own generators."""

    rank: int = 0
    batch_size: int = 8
    save_every: int = 10
    slow_s: float = 0.0

    def write_config(self, folder: Path) -> None:
        time.sleep(self.slow_s)
        self.slow_s = 0.0
        super().write_config(folder)

    def collate(self, arrays: Arrays) -> Tensors:
        torch.rand(self.rank + 1)
        return super().collate(arrays)


@dataclass
class WritingWitness(Witness):
    """Writes every step as a line, with what the parameters are."""

    path: Path = Path()

    def step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        super().step(optimizer, args, kwargs)
        kind = type(optimizer.param_groups[0]["params"][0]).__name__
        with self.path.open("a") as file:
            file.write(json.dumps({**asdict(self.steps[-1]), "kind": kind}) + "\n")


def resume(engine: Engine, after_s: float) -> None:
    """Resume the run some time after it was paused."""
    wait_until(lambda: the_run(engine).state == "paused")
    time.sleep(after_s)
    ask_now(engine, "resume")


def main() -> int:
    torch.set_num_threads(1)
    [text] = sys.argv[1:]
    exit_code = 0
    for task in TASKS.validate_json(text):
        faulthandler.dump_traceback_later(HUNG_AFTER_S)
        with environment(STOVETOP_DATA=str(task.data)):
            exit_code = carry_out(task)
        faulthandler.cancel_dump_traceback_later()
    return exit_code


def carry_out(task: Task) -> int:
    match task.program:
        case "buffer":
            train_on_buffer(task)
        case "own":
            train_own(task.data, task.script)
        case "by_name":
            return train_by_name(["--name", "run"])
    return 0


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Variables for a task; what it sets itself, as Hugging Face does for FSDP, goes with it."""
    before = dict(os.environ)
    os.environ.update(values)
    yield
    os.environ.clear()
    os.environ.update(before)


def train_on_buffer(task: Task) -> None:
    ranks = join(task.timeout_s)
    settings = Settings(adopt_every_s=0.02)
    engine = open_engine(settings.resolved_database_url)
    if ranks.index == task.blind_rank:
        settings = settings.model_copy(update={"data": task.data / "elsewhere"})
    witness = WritingWitness(path=task.data / f"{task.name}-{ranks.index}.jsonl")
    family = RankFamily(
        witness=witness,
        rank=ranks.index,
        arguments=task.arguments,
        slow_s=task.slow_s,
        damaged=task.damaged,
    )
    options = RunOptions(max_steps=task.max_steps, mix="mix")
    run_id = agreed_run(ranks, lambda: find_or_make_run(engine, "run", options, family))
    ask = asking(engine, task.script, num_ranks=ranks.count) if ranks.index == 0 else nobody_asks
    if ranks.index == 0 and task.resume_after_s:
        threading.Thread(target=resume, args=(engine, task.resume_after_s)).start()

    def during(count: int) -> None:
        ask(count)
        if (ranks.index, count) == (task.raise_rank, task.raise_at):
            raise ArithmeticError("the model can't go on")
        if (ranks.index, count) == (task.kill_rank, task.kill_at):
            wait_until(lambda: num_recorded(engine) == count - 1)
            os.kill(os.getpid(), signal.SIGKILL)

    witness.during = during
    with read(engine) as session:
        run = session.get_one(Run, run_id)
    with witness.watching():
        train(Workplace(engine, settings, threading.Event(), ranks=ranks), run, family)
    ranks.close()
    engine.dispose()


def nobody_asks(_count: int) -> None: ...


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the interpreter would take torch apart for seconds
