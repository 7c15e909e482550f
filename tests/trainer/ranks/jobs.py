"""Jobs of several ranks, started by torchrun, and what each rank saw."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.trainer.ranks.job import Scenario

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
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
    return launch("job.py", num_ranks, data, scenario.name, json.dumps(asdict(scenario)))


def launch(program: str, num_ranks: int, data: Path, name: str, text: str) -> int:
    """Run a program of this folder under torchrun to its end; the exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(num_ranks)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "STOVETOP_DATA": str(data),
    }
    with (data / f"{name}.log").open("wb") as log:
        job = subprocess.Popen(
            [*command, str(FOLDER / program), str(data), text],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        return job.wait(AT_MOST_S)
    except subprocess.TimeoutExpired:
        job.terminate()  # it ends the ranks, which have process groups of their own
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
