"""FSDP2 on two ranks: shards in training, whole in a checkpoint, the same results."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import select

from ingest.database import read
from tests.trainer.asking import metric
from tests.trainer.ranks.conftest import Job
from trainer.tables import Checkpoint


@pytest.fixture
def tour(first_job: dict[str, Job]) -> Job:
    """The same commands on a whole model."""
    return first_job["tour"]


@pytest.fixture
def sharded(second_job: dict[str, Job]) -> Job:
    return second_job["shards"]


def checkpoint_folder(job: Job, name: str) -> Path:
    with read(job.engine) as session:
        path = session.scalars(select(Checkpoint.path).where(Checkpoint.name == name)).one()
    return job.task.data / "runs" / path


def test_a_checkpoint_holds_the_generators_of_every_rank(tour: Job) -> None:
    folder = checkpoint_folder(tour, "main-10")
    names = {path.name for path in folder.iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "model.safetensors", "optimizer.pt"} <= names
    states = [(folder / f"rng_state_{rank}.pth").read_bytes() for rank in range(2)]
    assert states[0] != states[1]


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
