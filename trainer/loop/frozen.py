"""Frozen parameters: they take part in the step and do not move.

In: parameters. Guaranteed: none of them has a gradient when the optimizer steps, so that neither
the step nor AdamW's weight decay moves it, nor does it count in the norm that clipping goes by.
Decision: its gradient is made and dropped, at the full price of the backward pass, and
`requires_grad` stays: what DDP's buckets, sharding and reentrant checkpointing were set up on
changes in no step, and no choice of modules leaves a loss without a gradient, which would end the
run.
"""

from collections.abc import Iterable

from torch import nn


class Frozen:
    """The frozen parameters of one trainer; none at first."""

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []

    def set(self, parameters: Iterable[nn.Parameter]) -> None:
        """These and no others stand still from the next step on."""
        self.parameters = list(parameters)

    def drop_gradients(self) -> None:
        """To be called after each backward pass."""
        for parameter in self.parameters:
            parameter.grad = None
