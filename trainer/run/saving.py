"""Checkpoints on their way to the disk: copied between two steps, written beside the steps after.

In: the copied state of a moment. Out: the checkpoint, listed in the register and the journal once
it is verified, in one entry with the commands that waited for it. One that could not be written
fails those commands and nothing else. Decision: at most two copies are in memory at a time, so a
run that saves faster than its disk writes waits for its disk.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

import structlog

from trainer.checkpoints.folder import CheckpointFailed, Unfinished
from trainer.checkpoints.register import Register
from trainer.journal.entries import Entry, Together
from trainer.journal.lineage import CheckpointSaved

log = structlog.get_logger()

MAX_UNDER_WAY = 2

Outcome = CheckpointSaved | CheckpointFailed
Settle = Callable[[Outcome], tuple[Entry, ...]]
Write = Callable[[Entry], None]


class Saving:
    """A checkpoint that is being written, and what waits for it; `listed` lacks digest and size."""

    def __init__(self, listed: CheckpointSaved) -> None:
        self.checkpoint_id = listed.checkpoint_id
        self.name = listed.name
        self.branch = listed.branch
        self.step = listed.step
        self._settles: list[Settle] = []
        self._outcome: Outcome | None = None
        self._lock = threading.Lock()

    def once_over(self, settle: Settle, write: Write) -> None:
        """Write what `settle` makes of the outcome, together with it or, if it is known, now."""
        with self._lock:
            if self._outcome is None:
                self._settles.append(settle)
                return
        write(Together(settle(self._outcome)))

    def end(self, outcome: Outcome) -> tuple[Entry, ...]:
        """What is to be written now that it is over."""
        with self._lock:
            self._outcome = outcome
            settled = [entry for settle in self._settles for entry in settle(outcome)]
        return (outcome, *settled) if isinstance(outcome, CheckpointSaved) else tuple(settled)


class Saver:
    """One thread that writes, in order; close it to wait for what is under way.

    `write` is the journal's; `tidy` lets old checkpoints of a branch go, after a new one.
    """

    def __init__(self, register: Register, write: Write, tidy: Callable[[str], None]) -> None:
        self._register = register
        self._tidy = tidy
        self._write_entry = write
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._under_way: list[tuple[Saving, Future[None]]] = []

    @property
    def under_way(self) -> list[Saving]:
        """What is being written."""
        self._under_way = [(saving, over) for saving, over in self._under_way if not over.done()]
        return [saving for saving, _over in self._under_way]

    def find(self, wanted: str) -> Saving | None:
        """What is being written under this id or name."""
        named = (s for s in self.under_way if wanted in (s.checkpoint_id, s.name))
        return next(named, None)

    def of_step(self, branch: str, step: int) -> Saving | None:
        """What is being written of one step."""
        same = (s for s in self.under_way if (s.branch, s.step) == (branch, step))
        return next(same, None)

    def wait_for_room(self) -> None:
        """Until another copy may be made."""
        if len(self._under_way) >= MAX_UNDER_WAY:
            wait([self._under_way[-MAX_UNDER_WAY][1]])

    def begin(self, unfinished: Unfinished, listed: CheckpointSaved) -> Saving:
        """Write a checkpoint; `listed` is how it will be listed, but for its digest and size."""
        saving = Saving(listed)
        over = self._thread.submit(self._write, unfinished, listed, saving)
        self._under_way.append((saving, over))
        return saving

    def wait(self) -> None:
        """Until nothing is under way. Raises what stopped the journal, if anything did."""
        for _saving, over in self._under_way:
            over.result()

    def close(self) -> None:
        """Wait for what is under way, and end the thread."""
        self._thread.shutdown()

    def _write(self, unfinished: Unfinished, listed: CheckpointSaved, saving: Saving) -> None:
        outcome: Outcome
        try:
            written = unfinished.finish()
        except CheckpointFailed as error:
            log.warning("checkpoint_failed", name=saving.name, reason=str(error))
            outcome = error
        else:
            outcome = replace(listed, digest=written.digest, num_bytes=written.num_bytes)
            self._register.add(outcome)
        if entries := saving.end(outcome):
            self._write_entry(Together(entries))
        if isinstance(outcome, CheckpointSaved):
            self._tidy(outcome.branch)
