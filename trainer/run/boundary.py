"""The boundary between two steps: the one place where a run changes.

In: the trainer at a boundary. Out: the next step's batches. The order is fixed: the record of the
step that ended; commands, by number; adoptions; then the next step begins. Guaranteed: a step that
began after a command was marked `received` runs under it, for `started_at` is read before commands
are looked for the last time. No boundary waits for SQL: records leave by the journal, commands
come by the inbox. Where several processes train, this is rank 0's and the others follow
(`follower`); a boundary that was not announced before its step's optimizer is then quiet: it keeps
the record, and the next step begins. Nothing but `stop`, a signal or the last step ends a run.
"""

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog
from transformers import Trainer

from trainer.checkpoints.folder import CheckpointFailed
from trainer.commands.inbox import Inbox
from trainer.family import Tensors
from trainer.journal.command_entries import CommandStarted
from trainer.journal.entries import Judged, RunStarved
from trainer.loop.observed import ObservedStep
from trainer.mix.sampler import NothingToDraw
from trainer.run.live import LiveRun
from trainer.run.orders import End
from trainer.run.rerun import Rerun
from trainer.run.settling import carry_out

log = structlog.get_logger()

SIGNAL_WAITS = 2  # a damaged shard makes a run wait once, until its samples are taken away
WAIT_S = 0.1  # while paused or without samples: how late a signal to stop may be seen


class Boundary:
    """Carries a run from step to step.

    `open_inbox` starts reception, which waits until what a dead process had recorded is done again.
    """

    def __init__(
        self,
        run: LiveRun,
        rerun: Rerun,
        open_inbox: Callable[[], Inbox],
        *,
        stop_asked: threading.Event,
    ) -> None:
        self.outcome = "stopped"
        self.observed = ObservedStep(run.ranks)
        self._run = run
        self._rerun = rerun
        self._open_inbox = open_inbox
        self._inbox: Inbox | None = None
        self._stop_asked = stop_asked
        self._num_waits = 0  # for samples, in a row

    def before_first_step(self, trainer: Trainer) -> None:
        """Restore what the run goes on from, or save what it starts from."""
        with self._run.ranks.speaking():
            self._rerun.start(self._run, trainer)
            if self._rerun.origin is None:
                self._save_the_start(trainer)
            self._cross(trainer)

    def after_step(self, trainer: Trainer) -> None:
        """Record the step, then carry out what is asked."""
        run, step = self._run, trainer.state.global_step
        run.tips[run.branch] = step
        run.journal.write(self.observed.finish(run.branch, step, run.supply.status))
        if not run.ranks.is_announced():
            self.observed.begin(time.time(), step + 1)
            return
        with run.ranks.speaking():
            if step % run.family.save_every == 0:
                self._save(trainer)
            self._cross(trainer)

    def next_step(self, trainer: Trainer) -> list[Tensors]:
        """The next step's micro-batches; none once the run ends.

        Waits while no slice of the mix has a sample, and goes on obeying commands meanwhile.
        """
        while not self._run.is_ending:
            try:
                drawn = self._run.supply.draw(trainer.args.gradient_accumulation_steps)
            except NothingToDraw as nothing:
                self._wait_for_samples(trainer, nothing)
                continue
            self._num_waits = 0
            self.observed.take_batch(drawn.numbers)
            step = trainer.state.global_step + 1
            self._run.ranks.announce(partial(self._is_wanted, trainer, step))
            return drawn.micro_batches
        return []

    def save(self, trainer: Trainer) -> None:
        """An automatic checkpoint, where the loop wants one."""
        with self._run.ranks.speaking():
            self._save(trainer)

    def _save_the_start(self, trainer: Trainer) -> None:
        run = self._run
        run.save(trainer, note="the start", keep=True)
        run.saver.wait()
        if run.register.of_step(run.branch, 0) is None:
            raise CheckpointFailed("the first checkpoint could not be written, see the log")

    def _save(self, trainer: Trainer) -> None:
        """A checkpoint, unless the step has one; a full disk is no end of the run."""
        run, step = self._run, trainer.state.global_step
        if run.register.of_step(run.branch, step) or run.saver.of_step(run.branch, step):
            return
        try:
            run.save(trainer)
        except CheckpointFailed as error:
            log.warning("checkpoint_failed", run_id=run.run_id, step=step, reason=str(error))

    def evaluated(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """The trainer has judged the model by itself."""
        run = self._run
        run.journal.write(Judged(run.branch, trainer.state.global_step, dict(metrics)))

    def finish(self, trainer: Trainer) -> None:
        """The loop has ended; where somebody's callback ended it, the run does, too."""
        if not self._run.is_ending:
            with self._run.ranks.speaking():
                self._end(trainer)

    def close(self) -> None:
        """End reception."""
        if self._inbox is not None:
            self._inbox.close()

    def _wait_for_samples(self, trainer: Trainer, nothing: NothingToDraw) -> None:
        self._num_waits += 1
        if self._num_waits == 1:
            log.warning("run_starved", run_id=self._run.run_id, reason=str(nothing))
        if self._num_waits == SIGNAL_WAITS:
            run, step = self._run, trainer.state.global_step
            run.journal.write(RunStarved(run.branch, step, time.time(), str(nothing)))
        self._stop_asked.wait(WAIT_S)
        with self._run.ranks.speaking():
            self._cross(trainer)

    def _is_wanted(self, trainer: Trainer, step: int) -> bool:
        """Whether there will be anything to do at the boundary after a step that is under way."""
        run = self._run
        if self._inbox is None:
            return True
        is_due = (
            self._stop_asked.is_set()
            or step % run.family.save_every == 0
            or step >= trainer.state.max_steps
            or run.supply.is_adopting(step + 1)
        )
        return self._inbox.is_awaited(is_obeyed_anyway=is_due)

    def _cross(self, trainer: Trainer) -> None:
        """From the record of one step to the beginning of the next."""
        run = self._run
        self._rerun.apply_due(run, trainer)
        if self._inbox is None and self._rerun.is_over(trainer.state.global_step):
            self._inbox = self._open_inbox()
            run.journal.write(run.moved(trainer))
        started_at = self._obey(trainer)
        if run.is_ending or trainer.state.global_step >= trainer.state.max_steps:
            self._end(trainer)
            return
        run.journal.write(*run.supply.adopt(run.branch, trainer.state.global_step + 1))
        self.observed.begin(started_at, trainer.state.global_step + 1)

    def _obey(self, trainer: Trainer) -> float:
        """Carry out commands until none is left; the wall time before the last look."""
        run = self._run
        while True:
            started_at = time.time()
            received = self._inbox.take() if self._inbox is not None else []
            for command in received:
                run.journal.write(CommandStarted(command.command_id))
                carry_out(command, run, trainer)
                if run.is_ending:
                    return started_at
            if self._stop_asked.is_set():
                run.is_ending = True
            if run.is_ending or not (received or run.is_paused):
                return started_at
            if self._inbox is not None and not received:
                self._inbox.wait(WAIT_S)
            run.ranks.assert_answering()

    def _end(self, trainer: Trainer) -> None:
        self._run.is_ending = True
        self._run.journal.write(self._run.moved(trainer, "stopping"))
        self._save(trainer)
        self._run.saver.wait()
        is_over = trainer.state.global_step >= trainer.state.max_steps
        self.outcome = "finished" if is_over else "stopped"
        self._run.ranks.together(End(outcome=self.outcome), lambda: None)
        trainer.control.should_training_stop = True
