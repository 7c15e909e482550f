"""Which checkpoints were trained on forgotten samples, told from the draw log.

In: a tombstone. Out: every checkpoint of every run whose line, back to the run's start, has a step
that drew one of those samples, whether its files are still there or not. Decision: all recorded
steps are looked at, 20 us each: it is asked once in a while, and an index by sample would double
what each step writes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.tables import ForgottenSample, Tombstone
from trainer.mix.cohorts import unpack_numbers
from trainer.mix.permutation import IntArray
from trainer.tables import DATASET, Branch, Checkpoint, Run, Step

STEPS_A_FETCH = 500


def trained_on(session: Session, tombstone_id: str) -> list[tuple[Run, Checkpoint]]:
    """The checkpoints that learned from a forgotten user or session, by run and step."""
    numbers = _numbers(session, tombstone_id)
    if not numbers.size:
        return []
    runs = session.scalars(select(Run).where(Run.representation != DATASET).order_by(Run.name))
    return [
        (run, checkpoint)
        for run in runs.all()
        for checkpoint in _of_run(session, run.run_id, numbers)
    ]


def _numbers(session: Session, tombstone_id: str) -> IntArray:
    theirs = select(Tombstone.tombstone_id).where(
        (Tombstone.tombstone_id == tombstone_id) | (Tombstone.of_user == tombstone_id)
    )
    query = select(ForgottenSample.sample_number).where(ForgottenSample.tombstone_id.in_(theirs))
    return np.array(sorted(session.scalars(query)), dtype=np.int64)


def _of_run(session: Session, run_id: str, numbers: IntArray) -> Sequence[Checkpoint]:
    first = _first_draws(session, run_id, numbers)
    if not first:
        return []
    branches = session.scalars(select(Branch).where(Branch.run_id == run_id))
    by_name = {branch.name: branch for branch in branches}
    checkpoints = session.scalars(
        select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(Checkpoint.step)
    )
    return [each for each in checkpoints if _has_drawn(by_name, first, each.branch, each.step)]


def _first_draws(session: Session, run_id: str, numbers: IntArray) -> dict[str, int]:
    """The first step of each branch that drew one of the samples."""
    steps = session.execute(
        select(Step.branch, Step.step, Step.samples)
        .where(Step.run_id == run_id)
        .order_by(Step.branch, Step.step)
        .execution_options(yield_per=STEPS_A_FETCH)
    )
    first: dict[str, int] = {}
    for branch, step, samples in steps:
        if branch not in first and np.isin(unpack_numbers(samples), numbers).any():
            first[branch] = step
    return first


def _has_drawn(
    branches: Mapping[str, Branch], first: Mapping[str, int], name: str, step: int
) -> bool:
    """Whether a branch's line up to a step drew any, on itself or before it left its parent."""
    while True:
        if name in first and first[name] <= step:
            return True
        branch = branches.get(name)
        if branch is None or branch.parent is None:
            return False
        name, step = branch.parent, min(step, branch.from_step)
