"""What one optimizer step really did, seen where it happens and not where it was ordered.

In: the boundary's clock, the batches as they are taken, the losses as the model returned them, the
rate as the optimizer's own step saw it. Out: one `StepTaken` for the journal. A command's row says
what should hold from a step on; this says what did.
"""

import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainer.cohorts import pack_numbers
from trainer.entries import StepTaken
from trainer.metrics import step_metrics
from trainer.mix import MixStatus
from trainer.permutation import IntArray


class ObservedStep:
    """The step under way; `begin` starts it, `finish` ends it."""

    def __init__(self) -> None:
        self.begin(time.time())

    def begin(self, started_at: float) -> None:
        """Start anew; `started_at` is the wall time before commands were last looked for."""
        self._started_at = started_at
        self._numbers: list[IntArray] = []
        self._losses: list[Tensor] = []
        self._grad_norm = math.nan
        self._lr = math.nan

    def watch(self, optimizer: Optimizer) -> None:
        """Read the rate inside each step of the optimizer from now on."""
        inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps the real one
        inner.register_step_pre_hook(self._read_lr)

    def _read_lr(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        self._lr = float(optimizer.param_groups[0]["lr"])

    def take_batch(self, numbers: IntArray) -> None:
        """A micro-batch of these samples is taken."""
        self._numbers.append(numbers)

    def add_loss(self, loss: Tensor) -> None:
        """A micro-batch's part of the step's loss."""
        self._losses.append(loss)

    def set_grad_norm(self, grad_norm: Tensor | float) -> None:
        """The norm of all gradients before clipping."""
        self._grad_norm = float(grad_norm)

    def finish(self, branch: str, step: int, mix: MixStatus) -> StepTaken:
        """The step as it was."""
        now = time.time()
        metrics = step_metrics(
            loss=float(torch.stack(self._losses).sum()),
            grad_norm=self._grad_norm,
            lr=self._lr,
            step_s=now - self._started_at,
            mix=mix,
        )
        samples = pack_numbers(np.concatenate(self._numbers))
        return StepTaken(branch, step, self._started_at, now, self._lr, samples, metrics)
