"""Taking a run over: what SQL and the checkpoints say about where it stood.

In: a run's rows, read by the process that holds its lease. Out: its checkpoints, the last step of
each branch, and what is to be restored and done again. A damaged checkpoint is passed over for the
one before it, down to the one that the branch came from.
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from trainer.checkpoints.folder import CheckpointDamaged, check_files, read_manifest
from trainer.checkpoints.register import Register, load_register
from trainer.commands.kinds import parse
from trainer.commands.undoing import Undoables, load_undoables
from trainer.journal.lineage import CheckpointSaved
from trainer.run.rerun import Origin, Recorded, Rerun
from trainer.run.supply import Repeat
from trainer.tables import Branch, Command, Run, Step

log = structlog.get_logger()


class NothingToResume(RuntimeError):
    """A run has taken steps, and none of its checkpoints can be read."""


@dataclass(frozen=True)
class TakenOver:
    """What a run's new holder has found."""

    register: Register
    tips: dict[str, int]
    rerun: Rerun
    undoables: Undoables


def take_over(session: Session, run: Run, runs_path: Path) -> TakenOver:
    """Find out where a run stood. Raises NothingToResume."""
    register = load_register(session, run.run_id)
    tips = _tips(session, run.run_id)
    rerun = _rerun(session, run, register, tips, runs_path)
    return TakenOver(register, tips, rerun, load_undoables(session, run.run_id, run.branch))


def _tips(session: Session, run_id: str) -> dict[str, int]:
    """The last recorded step of each branch; where it began, if it has none."""
    branches = session.scalars(select(Branch).where(Branch.run_id == run_id))
    tips = {branch.name: branch.from_step for branch in branches}
    last = select(Step.branch, func.max(Step.step).label("step")).where(Step.run_id == run_id)
    return tips | {row.branch: row.step for row in session.execute(last.group_by(Step.branch))}


def _rerun(
    session: Session, run: Run, register: Register, tips: dict[str, int], runs_path: Path
) -> Rerun:
    branch = session.get_one(Branch, (run.run_id, run.branch))
    for checkpoint in _candidates(register, branch):
        try:
            manifest = read_manifest(runs_path / checkpoint.path, checkpoint.digest)
            check_files(runs_path / checkpoint.path, manifest)
        except CheckpointDamaged as damaged:
            log.warning("checkpoint_passed_over", name=checkpoint.name, reason=str(damaged))
            continue
        commands = _recorded(session, run, after=manifest.position.command_number)
        repeats = [Repeat(run.branch, tips[run.branch], is_own=True)]
        hold_until = _hold_until(manifest.position.hold_until, checkpoint, branch, commands)
        if hold_until is not None and branch.parent is not None:
            repeats.append(Repeat(branch.parent, hold_until, is_own=False))
        return Rerun(Origin(checkpoint, manifest, repeats), tips[run.branch], commands)
    if tips[run.branch]:
        raise NothingToResume(f"no checkpoint of run {run.name!r} can be read; start another run")
    return Rerun()


def _candidates(register: Register, branch: Branch) -> Iterator[CheckpointSaved]:
    yield from register.newest_first(branch.name)
    if branch.from_checkpoint is not None:
        yield register.find(branch.from_checkpoint)


def _recorded(session: Session, run: Run, *, after: int) -> deque[Recorded]:
    rows = session.scalars(
        select(Command)
        .where(
            Command.run_id == run.run_id,
            Command.branch == run.branch,
            Command.state == "applied",
            Command.number > after,
        )
        .order_by(Command.number)
    )
    return deque(
        Recorded(
            number=row.number,
            effective_step=row.effective_step or 0,
            command=parse(row.kind, json.loads(row.args_json)),
            after=json.loads(row.after_json or "{}"),
        )
        for row in rows
    )


def _hold_until(
    saved: int | None, checkpoint: CheckpointSaved, branch: Branch, commands: deque[Recorded]
) -> int | None:
    """The step up to which the branch follows its parent's adoptions."""
    if checkpoint.branch == branch.name:
        return saved
    # The branch has no checkpoint of its own: its first command is the rollback that opened it.
    hold_until: int | None = commands[0].after["hold_until"]
    return hold_until
