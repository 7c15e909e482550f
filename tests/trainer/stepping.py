"""What an optimizer really does in each step, seen by torch's own hooks around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

# The tiny model's parameters in the order in which Hugging Face puts them into its two groups.
NAMES = ("layers.0.weight", "layers.2.weight", "layers.0.bias", "layers.2.bias")


@dataclass
class Stepped:
    """One step: the groups' settings, what has a gradient, and the parameters around it."""

    groups: list[dict[str, Any]]
    graded: set[str]
    norm: float
    ages: dict[str, int]  # steps that the optimizer remembers
    before: dict[str, bytes]
    after: dict[str, bytes] = field(default_factory=dict)

    @property
    def moved(self) -> set[str]:
        return {name for name in NAMES if self.before[name] != self.after[name]}


Steps = list[Stepped]


@contextmanager
def stepping() -> Iterator[Steps]:
    """The steps as they happen."""
    steps: Steps = []

    def before(optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        named = _named(optimizer)
        grads = {name: p.grad for name, p in named.items() if p.grad is not None}
        steps.append(
            Stepped(
                groups=[
                    {key: value for key, value in group.items() if key != "params"}
                    for group in optimizer.param_groups
                ],
                graded=set(grads),
                norm=float(sum(grad.square().sum() for grad in grads.values()) ** 0.5),
                ages={name: int(optimizer.state[p].get("step", 0)) for name, p in named.items()},
                before=_bytes(named),
            )
        )

    def after(optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        steps[-1].after = _bytes(_named(optimizer))

    hooks = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        yield steps
    finally:
        for hook in hooks:
            hook.remove()


def _named(optimizer: Optimizer) -> dict[str, torch.nn.Parameter]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return dict(zip(NAMES, parameters, strict=True))


def _bytes(named: dict[str, torch.nn.Parameter]) -> dict[str, bytes]:
    return {name: p.detach().numpy().tobytes() for name, p in named.items()}
