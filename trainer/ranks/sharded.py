"""FSDP2: a model's parameters in shards over the ranks, and whole again for a checkpoint.

In: a model, or the state of one or of its optimizer. Out: the same model with DTensor parameters;
a state without any, which is what one process would have saved; and shards of such a state.
torch's `fully_shard` is called by us, for accelerate trains plain DDP on a CPU and says nothing.
The state is gathered tensor by tensor, so its layout stays the optimizer's own; torch's
`get_optimizer_state_dict` would name it otherwise and take a step with a new optimizer on the way.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

State = TypeVar("State")


def shard(model: nn.Module) -> None:
    """Shard the model over all ranks: each of its blocks, so that one at a time is whole."""
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """What the model's author says not to split; else the members of its lists of modules."""
    unsplit = set(getattr(model, "_no_split_modules", None) or ())
    if unsplit:
        return [module for module in model.modules() if type(module).__name__ in unsplit]
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return [block for blocks in lists for block in blocks]


def is_sharded(model: nn.Module) -> bool:
    """Whether any parameter is in shards."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(state: State, *, is_kept: bool) -> State:
    """A state with whole tensors on the CPU, its own to keep; every rank calls this.

    Ranks that don't keep it only give their shards.
    """

    def gathered(leaf: object) -> object:
        if isinstance(leaf, DTensor):
            full = leaf.full_tensor()
            return full.cpu() if is_kept else None
        return leaf.detach().cpu().clone() if isinstance(leaf, Tensor) else leaf

    return cast("State", tree_map(gathered, state))


@contextmanager
def made_whole(module: nn.Module) -> Iterator[None]:
    """A module whose parameters are whole within, to be made anew; shards of what they are after.

    What is not written within stays as it was. Nothing is sent: each rank makes all of it, for
    shards that each draws for itself would be the same on every rank.
    """
    shards = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if isinstance(parameter, DTensor)
    ]
    for part, name, own in shards:
        empty = torch.full(own.shape, torch.nan, dtype=own.dtype, device=own.device)
        part._parameters[name] = nn.Parameter(empty, requires_grad=own.requires_grad)
    try:
        yield
    finally:
        made = [part._parameters[name] for part, name, _own in shards]
        for part, name, own in shards:
            part._parameters[name] = own
    for new, (_part, _name, own) in zip(made, shards, strict=True):
        assert new is not None
        if not new.isnan().all():
            own.copy_(_like(new, own))


def load_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take over a whole state: this rank's shards of it."""
    with torch.no_grad():
        for name, own in model.state_dict().items():
            own.copy_(_like(state[name], own))


def shards_of_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole state as the optimizer loads it: moments are sharded as their parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sharded = {
        index: {
            name: _like(value, parameters[index]) if _is_shaped(value, parameters[index]) else value
            for name, value in moments.items()
        }
        for index, moments in state["state"].items()
    }
    return {**state, "state": sharded}


def _is_shaped(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape == parameter.shape


def _like(value: Tensor, own: Tensor) -> Tensor:
    if not isinstance(own, DTensor):
        return value
    # Every rank has all of it: nothing is sent.
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
