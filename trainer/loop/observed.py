"""What one optimizer step really did, seen where it happens and not where it was ordered.

In: the boundary's clock, the batches as they are taken, the losses as the model returned them, the
rate as the optimizer's own step saw it. Out: one `StepTaken` for the journal. A command's row says
what should hold from a step on; this says what did.
"""

import math
import time

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from trainer.journal.entries import StepTaken
from trainer.loop.update_ratio import UpdateRatio
from trainer.mix.permutation import IntArray
from trainer.mix.sampler import MixStatus
from trainer.ranks.alone import Member


class ObservedStep:
    """The step under way; `begin` starts it, `finish` ends it.

    Its loss is the mean over the ranks, which travels while the optimizer steps.
    """

    def __init__(self, ranks: Member) -> None:
        self._ranks = ranks
        self._update_ratio = UpdateRatio()
        self.begin(time.time(), step=0)

    def begin(self, started_at: float, step: int) -> None:
        """Start anew; `started_at` is the wall time before commands were last looked for."""
        self._update_ratio.begin(step)
        self._started_at = started_at
        self._numbers: IntArray = np.empty(0, dtype=np.int64)
        self._losses: list[Tensor] = []
        self._grad_norm: float | None = None
        self._lr = math.nan

    def watch(self, optimizer: Optimizer) -> None:
        """Read the rate and what it does inside each step of the optimizer from now on."""
        inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps the real one
        inner.register_step_pre_hook(self._read_lr)
        self._update_ratio.watch(inner)

    def _read_lr(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        self._lr = float(optimizer.param_groups[0]["lr"])
        self._ranks.start_mean(self._loss)

    def _loss(self) -> float:
        return math.fsum(loss.item() for loss in self._losses)

    def take_batch(self, numbers: IntArray) -> None:
        """The step's samples, of all its micro-batches, are taken."""
        self._numbers = numbers

    def add_loss(self, loss: Tensor) -> None:
        """A micro-batch's part of the step's loss."""
        self._losses.append(loss)

    def set_grad_norm(self, grad_norm: Tensor | float) -> None:
        """The norm of all gradients before clipping."""
        self._grad_norm = float(grad_norm)

    def finish(self, branch: str, step: int, mix: MixStatus) -> StepTaken:
        """The step as it was."""
        return StepTaken(
            branch=branch,
            step=step,
            started_at=self._started_at,
            finished_at=time.time(),
            lr=self._lr,
            loss=self._ranks.mean(self._loss),
            grad_norm=self._grad_norm,
            update_ratio=self._update_ratio.value,
            numbers=self._numbers,
            mix=mix,
        )
