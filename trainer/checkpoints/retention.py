"""Which checkpoints stay: automatic ones go when newer ones of their branch have come.

In: a branch that has a new checkpoint. Out: what is surplus is off the lists, and then off the
disk. Guaranteed: what somebody asked to keep, what a branch began from, and what is still to be
judged or gone back to stays; what a process that dies leaves on the disk, the next one removes.
"""

import json
import shutil
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.database import write
from trainer.checkpoints.register import Register
from trainer.journal.lease import Lease, LeaseLost
from trainer.journal.lineage import CheckpointSaved
from trainer.tables import UNSETTLED, Branch, Checkpoint, Command, Evaluation

log = structlog.get_logger()


class Retention:
    """Lets all but the `keep` newest automatic checkpoints of a branch go."""

    def __init__(
        self, engine: Engine, lease: Lease, register: Register, runs_path: Path, *, keep: int
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._register = register
        self._runs_path = runs_path
        self._keep = keep

    def tidy(self, branch: str) -> None:
        """Remove what is surplus; while the database is away, the next time."""
        automatic = (c for c in self._register.newest_first(branch) if not c.is_kept)
        surplus = list(islice(automatic, self._keep, None))
        if not surplus:
            return
        try:
            with write(self._engine) as session:
                self._lease.assert_held(session)
                removed = _take_off(session, self._lease.run_id, surplus)
        except (OperationalError, LeaseLost) as error:
            log.warning("checkpoints_not_tidied", branch=branch, reason=str(error))
            return
        self._register.remove([checkpoint.checkpoint_id for checkpoint in removed])
        for checkpoint in removed:
            shutil.rmtree(self._runs_path / checkpoint.path, ignore_errors=True)
            log.info("checkpoint_removed", name=checkpoint.name)


def _take_off(
    session: Session, run_id: str, surplus: Sequence[CheckpointSaved]
) -> list[CheckpointSaved]:
    """Mark those as removed that nothing needs and that are listed by now."""
    needed = _needed(session, run_id)
    removed = []
    for checkpoint in surplus:
        row = session.get(Checkpoint, checkpoint.checkpoint_id)
        if row is not None and not needed & {checkpoint.checkpoint_id, checkpoint.name}:
            row.removed_at = time.time()
            removed.append(checkpoint)
    return removed


def _needed(session: Session, run_id: str) -> set[str | None]:
    """What a branch began from, is still to be judged, or is to be gone back to; ids and names."""
    origins = select(Branch.from_checkpoint).where(Branch.run_id == run_id)
    judged = select(Evaluation.checkpoint_id).where(
        Evaluation.run_id == run_id, Evaluation.state.in_(("waiting", "leased"))
    )
    rollbacks = select(Command.args_json).where(
        Command.run_id == run_id, Command.kind == "rollback", Command.state.in_(UNSETTLED)
    )
    asked = {json.loads(arguments)["checkpoint"] for arguments in session.scalars(rollbacks)}
    return {*session.scalars(origins), *session.scalars(judged), *asked}
