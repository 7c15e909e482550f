"""A run's supply from the buffer: its mix, its adoptions, its stream.

In: the run's mix and position, the buffer's revisions. Out: the next step's samples, and the
adoptions that
are due at a boundary, as entries for the journal. Guaranteed: what a held line or a dead process
adopted is adopted again at the same steps before anything new is; a damaged shard is quarantined
and training goes on. Plans are made beside the training (`planner`); only a slice that the run has
never seen, and a rollback, make a boundary wait for one.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import structlog
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.buffer import quarantine
from ingest.database import read, write
from ingest.tables import Shard
from trainer.checkpoints.folder import RunPosition
from trainer.commands.references import MixVersion
from trainer.family import Tensors
from trainer.journal.entries import Entry
from trainer.journal.lineage import AdoptionFollowed, AdoptionTaken
from trainer.mix.adopt import Adopter, AdoptionPlan
from trainer.mix.planner import Planner
from trainer.mix.sampler import MixStatus, NothingToDraw
from trainer.mix.stream import Arrays, SamplesForgotten, ShardDamaged, Stream
from trainer.ranks.alone import RankLost, Ranks
from trainer.run.orders import adopt_order
from trainer.run.supply import Drawn, Repeat

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Again:
    plan: AdoptionPlan
    effective_step: int
    is_own: bool


Collate = Callable[[Arrays], Tensors]


class BufferSupply:
    """The training thread's own; close it to end the planner and the stream."""

    def __init__(
        self,
        engine: Engine,
        adopter: Adopter,
        stream: Stream,
        mix: MixVersion,
        collate: Collate,
        *,
        adopt_every_s: float,
        ranks: Ranks,
    ) -> None:
        self.mix = mix
        self.adoption = 0
        self.hold_until: int | None = None
        self._engine = engine
        self._adopter = adopter
        self._stream = stream
        self._collate = collate
        self._ranks = ranks
        self._again: deque[_Again] = deque()
        self._nothing_new_until = 0
        self._is_due = True
        self._planner = Planner(adopter, stream, adopt_every_s)
        self._planner.look_after(mix.shares)

    @property
    def status(self) -> MixStatus:
        """Wanted and actual shares, as of the last batch."""
        return self._stream.mix

    def draw(self, num_micro_batches: int) -> Drawn:
        """The next step's samples.

        Raises NothingToDraw when no slice has any; also once for a damaged shard, which is
        quarantined, or for forgotten samples: the next adoption takes them away. One of several
        ranks raises RankLost for it, as the others have their part of that step: a restart goes on
        without it.
        """
        try:
            batch = self._stream.next_batch()
        except ShardDamaged as damaged:
            self._quarantine(damaged)
            if self._stream.is_shared:
                raise RankLost(f"{damaged}; it is set apart, start the job again") from damaged
            raise NothingToDraw(str(damaged)) from damaged
        except SamplesForgotten as forgotten:
            self._give_up_repeating()
            if self._stream.is_shared:
                raise RankLost(f"{forgotten}; start the job again") from forgotten
            raise NothingToDraw(str(forgotten)) from forgotten
        return Drawn(batch.numbers, self._micro_batches(batch.arrays, num_micro_batches))

    def _micro_batches(self, arrays: Arrays, count: int) -> list[Tensors]:
        parts = {name: np.array_split(array, count) for name, array in arrays.items()}
        return [
            self._collate({name: part[index] for name, part in parts.items()})
            for index in range(count)
        ]

    def check_mix(self, _mix: MixVersion, _field: str) -> None:
        """Any mix can be drawn from."""

    def set_mix(self, mix: MixVersion) -> None:
        """Draw from another mix from the next batch on."""
        self._stream.set_shares(mix.shares, mix.policies)
        self._is_due |= not set(mix.shares) <= set(self.mix.shares)
        self.mix = mix
        self._planner.look_after(mix.shares)

    def adopt(self, branch: str, next_step: int) -> list[Entry]:
        """Take over what is due before `next_step`; the answer is to be journalled."""
        entries: list[Entry] = []
        while self._again and self._again[0].effective_step <= next_step:
            again = self._again.popleft()
            self._take_together(replace(again.plan, after=self.adoption))
            if not again.is_own:
                entries.append(AdoptionFollowed(branch, again.plan.number))
        if next_step <= self._nothing_new_until:
            return entries
        self.hold_until = None
        plan = self._new_plan()
        if plan is None:
            return entries
        self._take_together(plan)
        taken = AdoptionTaken(
            number=plan.number,
            branch=branch,
            effective_step=next_step,
            revision=plan.revision,
            changes=plan.changes,
            at=time.time(),
        )
        log.info("revision_adopted", number=plan.number, revision=plan.revision, step=next_step)
        return [*entries, taken]

    def is_adopting(self, next_step: int) -> bool:
        """Whether `adopt` would take anything over before `next_step`."""
        if self._again and self._again[0].effective_step <= next_step:
            return True
        return next_step > self._nothing_new_until and (self._is_due or self._planner.is_ready)

    def _new_plan(self) -> AdoptionPlan | None:
        if not self._is_due:
            plan = self._planner.take()
            return plan if plan is not None and plan.after == self.adoption else None
        try:
            plan = self._adopter.latest(self.mix.shares)
        except OperationalError as error:
            log.warning("adoption_delayed", reason=str(error.orig))
            return None
        self._is_due = False
        return plan

    def _take_together(self, plan: AdoptionPlan) -> None:
        self._ranks.together(partial(adopt_order, plan), partial(self.take, plan))

    def take(self, plan: AdoptionPlan) -> None:
        """Take over a plan, here and now."""
        self._stream.adopt(plan)
        self._adopter.advance(plan)
        self.adoption = plan.number

    def state_dict(self) -> dict[str, Any]:
        """The stream's position after the last batch."""
        return self._stream.state_dict()

    def restore(self, position: RunPosition, repeats: Sequence[Repeat]) -> None:
        """Stand where a checkpoint did, and take the adoptions of `repeats` again from there.

        Everything is read before anything changes. Raises OperationalError then.
        """
        with read(self._engine) as session:
            again = self._read_again(session, position.adoption, repeats)
            members = self._adopter.restore(session, position.branch, position.adoption)
        self._stream.load_state_dict(position.stream, members)
        self.mix = position.mix
        self.adoption = position.adoption
        self.hold_until = max((r.until_step for r in repeats if not r.is_own), default=None)
        self._again = again
        self._nothing_new_until = max((r.until_step for r in repeats), default=0)
        self._is_due = True
        self._planner.look_after(self.mix.shares)

    def _read_again(self, session: Session, after: int, repeats: Sequence[Repeat]) -> deque[_Again]:
        again: deque[_Again] = deque()
        for repeat in repeats:
            for seen in self._adopter.recorded(session, repeat.branch, after):
                if repeat.is_own or seen.effective_step <= repeat.until_step:
                    plan = self._adopter.load(session, seen.number)
                    again.append(_Again(plan, seen.effective_step, repeat.is_own))
                    after = seen.number
        return again

    def _quarantine(self, damaged: ShardDamaged) -> None:
        """Set the shard apart."""
        log.error("shard_quarantined", path=damaged.shard_path, reason=damaged.reason)
        self._give_up_repeating()
        try:
            with write(self._engine) as session:
                shard = session.scalar(select(Shard).where(Shard.path == damaged.shard_path))
                if shard is not None:  # else somebody has written it anew meanwhile
                    quarantine(session, shard.shard_id, now=time.time())
        except OperationalError as error:
            log.warning("quarantine_delayed", reason=str(error.orig))

    def _give_up_repeating(self) -> None:
        """What was to be drawn again is no more: the newest revision is due."""
        self._again.clear()
        self._nothing_new_until = 0
        self._is_due = True

    def close(self) -> None:
        """End the planner and the stream."""
        self._planner.close()
        self._stream.close()
