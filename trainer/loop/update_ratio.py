"""How much one optimizer step changes the weights, relative to their size.

In: an optimizer, looked at just before and after its step. Out: |change| / |weights| (L2) of the
steps that are measured; None for a model in shards. It needs the tensors, so it is the one number
of a run's health that is taken in the step: on every 20th, over at most 8 x 256 weights spread
evenly over the matrices, 0.6 ms there at 100 matrices of a million each, so 30 us a step; the
estimate is within a few per cent. Nothing is changed and no random number drawn.
"""

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

EVERY_STEPS = 20
MAX_TENSORS = 8
MAX_WEIGHTS = 256  # of one tensor
MATRIX = 2  # biases and norms, which begin at 0 or 1, would say more about that than about the rate


class UpdateRatio:
    """`begin` each step; `value` is the ratio once a measured one is done, else None."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._is_due = False
        self._weights: list[Tensor] = []
        self._before: Tensor | None = None

    def watch(self, optimizer: Optimizer) -> None:
        """Look at this optimizer's steps from now on."""
        optimizer.register_step_pre_hook(self._note)
        optimizer.register_step_post_hook(self._compare)

    def begin(self, step: int) -> None:
        """A step begins; steps 1, 21, 41 ... are measured, again when they are taken again."""
        self.value = None
        self._is_due = step % EVERY_STEPS == 1

    def _note(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        self._weights = _spread(optimizer) if self._is_due else []
        if self._weights:
            self._before = _copied(self._weights)

    def _compare(self, _optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        if self._before is None:
            return
        change = _copied(self._weights) - self._before
        self.value = float(change.norm() / self._before.norm())
        self._weights, self._before = [], None


def _copied(weights: list[Tensor]) -> Tensor:
    """All of them in one float32 vector, wherever they are."""
    device = weights[0].device
    return torch.cat([part.to(device, torch.float32) for part in weights])


def _spread(optimizer: Optimizer) -> list[Tensor]:
    """Views of weights that are trained, evenly over the tensors and over each of them."""
    trained = [
        parameter
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
        and parameter.numel() > 0
        and not isinstance(parameter, DTensor)  # a sample of shards would have to be sent around
    ]
    chosen = [parameter for parameter in trained if parameter.ndim >= MATRIX] or trained
    chosen = chosen[:: max(1, -(-len(chosen) // MAX_TENSORS))]
    return [
        parameter.detach().flatten()[:: max(1, -(-parameter.numel() // MAX_WEIGHTS))]
        for parameter in chosen
    ]
