"""One rank of a job: trains the run called `run` in an installation, and writes down what it saw.

`torchrun --nproc-per-node N tests/trainer/ranks/job.py DATA SCENARIO`, where SCENARIO is JSON.
Each rank writes a line a step, as seen inside the optimizer's own step.
"""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from sqlalchemy import Engine
from torch.optim.optimizer import Optimizer

from ingest.database import open_engine, read
from ingest.settings import Settings
from tests.trainer.asking import Asked, ask_now, asking, the_run
from tests.trainer.doomed import num_recorded
from tests.trainer.tiny import TinyFamily, Witness
from tests.waiting import wait_until
from trainer.family import Tensors
from trainer.mix.stream import Arrays
from trainer.ranks.group import Other, join
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train
from trainer.tables import Run


@dataclass(frozen=True)
class Scenario:
    """What is asked during rank 0's n-th step, and what happens to a rank."""

    name: str
    max_steps: int
    script: dict[int, list[Asked]] = field(default_factory=dict)
    timeout_s: float = 60.0
    arguments: dict[str, Any] = field(default_factory=dict)
    kill_rank: int | None = None
    kill_at: int = 0
    resume_after_s: float = 0.0  # once it is paused
    blind_rank: int | None = None  # whose checkpoints are all damaged
    slow_s: float = 0.0  # how long the first checkpoint takes rank 0
    damaged: dict[int, str] = field(default_factory=dict)  # shards by the samples they can't give


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


def main() -> None:
    data, text = sys.argv[1:]
    scenario = TypeAdapter(Scenario).validate_json(text)
    ranks = join(scenario.timeout_s)
    settings = Settings(data=Path(data), adopt_every_s=0.02)
    engine = open_engine(settings.resolved_database_url)
    if ranks.index == scenario.blind_rank:
        settings = settings.model_copy(update={"data": Path(data) / "elsewhere"})
    witness = WritingWitness(path=Path(data) / f"{scenario.name}-{ranks.index}.jsonl")
    family = RankFamily(
        witness=witness,
        rank=ranks.index,
        arguments=scenario.arguments,
        slow_s=scenario.slow_s,
        damaged=scenario.damaged,
    )
    options = RunOptions(max_steps=scenario.max_steps, mix="mix")
    if isinstance(ranks, Other):
        run_id = ranks.learn()
    else:
        run_id = ranks.say(lambda: find_or_make_run(engine, "run", options, family).run_id)
        ask = asking(engine, scenario.script)
        if scenario.resume_after_s:
            threading.Thread(target=resume, args=(engine, scenario.resume_after_s)).start()

    def during(count: int) -> None:
        if ranks.index == 0:
            ask(count)
        if (ranks.index, count) == (scenario.kill_rank, scenario.kill_at):
            wait_until(lambda: num_recorded(engine) == count - 1)
            os.kill(os.getpid(), signal.SIGKILL)

    witness.during = during
    with read(engine) as session:
        run = session.get_one(Run, run_id)
    with witness.watching():
        train(Workplace(engine, settings, threading.Event(), ranks=ranks), run, family)
    engine.dispose()


if __name__ == "__main__":
    main()
    os._exit(0)  # the interpreter would take torch apart for seconds
