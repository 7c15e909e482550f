"""Rows of runs for tests, with only what a test cares about spelled out."""

import json
import time
from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy.orm import Session

from ingest.ids import content_id
from trainer import tables
from trainer.mix.cohorts import pack_numbers


def make_run(session: Session, name: str = "online", **changed: object) -> tables.Run:
    """A run that is under way, with its branch `main`."""
    now = time.time()
    values: dict[str, object] = {
        "recipe": "neuralos",
        "config_json": json.dumps({"seed": 1}),
        "state": "running",
        "branch": "main",
        "step": 10,
        "max_steps": 100,
        "lr": 5e-4,
        "mix_name": "half",
        "mix_version": 1,
        "representation": "latent:abc",
        "environment": "drawn/1",
        "command_counter": 0,
        "fence": 0,
        "holder": None,
        "lease_expires_at": None,
        "error": None,
        "created_at": now,
        "updated_at": now,
    }
    run = tables.Run(run_id=content_id("run", name), name=name, **(values | changed))
    session.add(run)
    session.flush()
    session.add(
        tables.Branch(
            run_id=run.run_id,
            name="main",
            parent=None,
            from_step=0,
            from_checkpoint=None,
            from_adoption=0,
            created_at=now,
        )
    )
    session.flush()
    return run


def make_metrics(
    session: Session,
    run: tables.Run,
    values: Mapping[int, float | None],
    *,
    name: str = "loss",
    branch: str = "main",
) -> None:
    """A metric's values by step."""
    session.add_all(
        tables.Metric(run_id=run.run_id, branch=branch, name=name, step=step, value=value)
        for step, value in values.items()
    )
    session.flush()


def make_step(
    session: Session, run: tables.Run, step: int, samples: Sequence[int], branch: str = "main"
) -> None:
    """One step that drew these samples."""
    packed = pack_numbers(np.array(samples, dtype=np.int64))
    session.add(
        tables.Step(
            run_id=run.run_id,
            branch=branch,
            step=step,
            started_at=1_000.0 + step,
            lr=5e-4,
            samples=packed,
        )
    )
    session.flush()


def make_checkpoint(session: Session, run: tables.Run, name: str, step: int) -> tables.Checkpoint:
    """A listed checkpoint without files."""
    checkpoint = tables.Checkpoint(
        checkpoint_id=content_id(run.run_id, name),
        run_id=run.run_id,
        branch="main",
        step=step,
        lr=5e-4,
        name=name,
        note="",
        path=f"{run.run_id}/main/step-{step}",
        digest="0" * 64,
        num_bytes=1,
        is_kept=False,
        created_at=1_000.0 + step,
    )
    session.add(checkpoint)
    session.flush()
    return checkpoint


def make_signal(
    session: Session, run: tables.Run, step: int, name: str, **changed: object
) -> tables.HealthSignal:
    """A signal of the run's health that started."""
    values: dict[str, object] = {
        "branch": "main",
        "state": "started",
        "value": 3.0,
        "threshold": 2.0,
        "message": "look at the step's samples",
        "at": 1_000.0 + step,
    }
    signal = tables.HealthSignal(run_id=run.run_id, step=step, name=name, **(values | changed))
    session.add(signal)
    session.flush()
    return signal
