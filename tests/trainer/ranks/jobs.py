"""Jobs of several ranks, started as anybody starts them, and what each rank saw."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.trainer.ranks.job import TASKS, Task

JOB = Path(__file__).with_name("job.py")
ROOT = JOB.parents[3]
AT_MOST_S = 240.0
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node"],
    "accelerate": [
        # It starts several processes on CPUs only through MPI; these do the same without GPUs.
        *("accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        "--num_processes",
    ],
}


@dataclass(frozen=True)
class Step:
    """One optimizer step as one rank saw it."""

    lr: float
    ids: list[int]
    loss: float
    kind: str


@dataclass(frozen=True)
class Ended:
    """How a job ended, and what its ranks wrote to their terminal."""

    exit_code: int
    log: str


def run_job(
    num_ranks: int, tasks: list[Task], launcher: Literal["torchrun", "accelerate"] = "torchrun"
) -> Ended:
    """Run a job to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", *LAUNCHERS[launcher], str(num_ranks), str(JOB)]
    path = tasks[0].data / f"{tasks[0].name}.log"
    with path.open("wb") as log:
        job = subprocess.Popen(
            [*program, TASKS.dump_json(tasks).decode()],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        return Ended(job.wait(AT_MOST_S), path.read_text())
    except subprocess.TimeoutExpired:
        job.terminate()  # it ends the ranks, which have process groups of their own
        job.wait()
        raise TimeoutError(path.read_text()[-8000:]) from None


def seen(data: Path, name: str, num_ranks: int) -> list[list[Step]]:
    """What each rank saw, step by step."""
    paths = [data / f"{name}-{rank}.jsonl" for rank in range(num_ranks)]
    lines = [path.read_text().splitlines() if path.exists() else [] for path in paths]
    return [[Step(**json.loads(line)) for line in of_rank] for of_rank in lines]


def whole(shares: Sequence[Sequence[int]]) -> list[int]:
    """A step's samples in draw order, from what each rank took of them."""
    count = len(shares)
    return [shares[n % count][n // count] for n in range(sum(len(share) for share in shares))]
