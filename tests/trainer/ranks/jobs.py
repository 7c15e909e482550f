"""Jobs of several ranks, started by torchrun, and what each rank saw."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.trainer.ranks.job import Scenario

JOB = Path(__file__).with_name("job.py")
ROOT = JOB.parents[3]
AT_MOST_S = 240.0


@dataclass(frozen=True)
class Step:
    """One optimizer step as one rank saw it."""

    lr: float
    ids: list[int]
    loss: float
    kind: str


def run_job(data: Path, num_ranks: int, scenario: Scenario) -> int:
    """Run a job to its end; torchrun's exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(num_ranks), str(JOB)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (data / f"{scenario.name}.log").open("wb") as log:
        job = subprocess.Popen(
            [*command, str(data), json.dumps(asdict(scenario))],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return job.wait(AT_MOST_S)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)  # the ranks, too, which torchrun would leave behind
        job.wait()
        raise


def seen(data: Path, name: str, num_ranks: int) -> list[list[Step]]:
    """What each rank saw, step by step."""
    paths = [data / f"{name}-{rank}.jsonl" for rank in range(num_ranks)]
    return [[Step(**json.loads(line)) for line in path.read_text().splitlines()] for path in paths]


def whole(shares: Sequence[Sequence[int]]) -> list[int]:
    """A step's samples in draw order, from what each rank took of them."""
    count = len(shares)
    return [shares[n % count][n // count] for n in range(sum(len(share) for share in shares))]
