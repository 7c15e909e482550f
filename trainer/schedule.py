"""The live learning rate: a scheduler whose rates change only when somebody says so.

In: an optimizer, then changes. Out: the rates of its parameter groups from the next step on. The
rate lives in the scheduler and not only in `param_groups`, because HF's loop calls the scheduler
after each step and would overwrite a poked value; so it is saved and restored with it, too.
"""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainer.commands import LrChange


class LiveSchedule(LRScheduler):
    """Constant until changed; one rate a parameter group."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates in force, by parameter group (torch calls this in `step`)."""
        return list(self.rates)

    def change(self, change: LrChange) -> None:
        """Set or scale every group's rate; ValueError, and no change, when one is unusable."""
        self.rates = [change.applied_to(rate) for rate in self.rates]
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(self.rates)
