"""Modules started anew, the same way in every process and every time.

In: modules and a seed. Out: which of their parts could be reset: those with `reset_parameters`, as
torch's own layers have. The seed decides the new values and training's generators are left as they
are, so that a reset depends neither on dropout before it nor on how many ranks have shards. What
the optimizer remembers of the old values is forgotten.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.commands.references import CommandRefused
from trainer.ranks.sharded import made_whole


def reset_modules(modules: Mapping[str, nn.Module], optimizer: Optimizer, seed: int) -> list[str]:
    """Reset these modules; the names of the parts that were, in order.

    Raises CommandRefused naming the modules of which no part can be reset, or what a part's own
    `reset_parameters` raises; nothing is changed then.
    """
    parts = {name: dict(_parts(name, module)) for name, module in modules.items()}
    rigid = [name for name, found in parts.items() if not found]
    if rigid:
        raise CommandRefused("modules", f"no part of {', '.join(rigid)} has reset_parameters")
    whole = {name: part for found in parts.values() for name, part in found.items()}
    _reset(whole.values(), seed)
    for part in whole.values():
        for parameter in part.parameters():
            optimizer.state.pop(parameter, None)
    return sorted(whole)


def _parts(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for inner, part in module.named_modules(prefix=name):
        if callable(getattr(part, "reset_parameters", None)):
            yield inner, part


def _reset(parts: Iterable[nn.Module], seed: int) -> None:
    parts = list(parts)
    before = [
        (tensor, tensor.clone())
        for part in parts
        for tensor in (*part.parameters(), *part.buffers())
    ]
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for part in parts:
                with made_whole(part):
                    part.reset_parameters()  # type: ignore[operator]  # `_parts` has looked
    except Exception:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        raise
