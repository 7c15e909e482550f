"""A checkpoint's tensors, read beside the live ones, take their place: nothing is copied.

In: a verified read of the files into spare memory. Out: the live model and optimizer on that
memory; theirs is left to the copy of the state that is left. Until it is carried out nothing live
has changed. Guaranteed: memory that anything else looks into, a tied weight or a view that somebody
holds, is not left but written into. Decision: what can't be exchanged whole (shards, another
device, a Trainer or optimizer that loads in its own way) is not, and loaded as Hugging Face does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from trainer.checkpoints.copies import Memory
from trainer.checkpoints.folder import CheckpointDamaged, Manifest, check_files
from trainer.checkpoints.places import Place, filled, outline

LARGE_FILES = (SAFE_WEIGHTS_NAME, OPTIMIZER_NAME)
_OWN_HOLDERS = 2  # of a storage: its tensor, and the storage's object that is asked


@dataclass(frozen=True)
class Exchange:
    """What `carry_out` does; `leaving` are the addresses of the memory that is left then."""

    leaving: frozenset[int]
    _optimizer: Optimizer
    _saved_optimizer: dict[str, Any]
    _weights: list[tuple[Tensor, Tensor]]
    _memory: Memory

    def carry_out(self) -> None:
        """Go over to what was read."""
        with torch.no_grad():
            for live, saved in self._weights:
                if live.data_ptr() in self.leaving:
                    live.data = saved
                else:
                    live.copy_(saved)
                    self._memory.give_back(saved)
        self._optimizer.load_state_dict(self._saved_optimizer)


def read_beside(
    trainer: Trainer, folder: Path, manifest: Manifest, memory: Memory
) -> Exchange | None:
    """Read and verify a checkpoint; None where it can't be exchanged for what is live.

    Raises CheckpointDamaged.
    """
    model, optimizer = trainer.model, inner_optimizer(trainer)
    assert model is not None
    if set(manifest.places) != set(LARGE_FILES) or not _loads_as_usual(trainer, model, optimizer):
        check_files(folder, manifest)
        return None
    tensors = {
        name: {place: memory.take(place.dtype, place.shape) for place in places}
        for name, places in manifest.places.items()
    }
    try:
        check_files(folder, manifest, {name: _parts(held) for name, held in tensors.items()})
    except CheckpointDamaged:
        memory.give_back(list(chain.from_iterable(held.values() for held in tensors.values())))
        raise
    saved, saved_optimizer = (filled(outline(folder / name), tensors[name]) for name in LARGE_FILES)
    weights = _pairs(model, saved)
    if weights is None or any(leaf.is_meta for leaf in _tensors(saved_optimizer)):
        return None
    leaving = chain((live for live, _saved in weights), _tensors(optimizer.state_dict()["state"]))
    addresses = frozenset(tensor.data_ptr() for tensor in leaving if _is_alone(tensor))
    return Exchange(addresses, optimizer, saved_optimizer, weights, memory)


def inner_optimizer(trainer: Trainer) -> Optimizer:
    """The optimizer itself, which accelerate wraps."""
    optimizer = trainer.optimizer
    assert optimizer is not None
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _loads_as_usual(trainer: Trainer, model: nn.Module, optimizer: Optimizer) -> bool:
    """Whether loading gives the tensors of one process their values, and does nothing else."""
    live = chain(model.parameters(), model.buffers(), _tensors(optimizer.state_dict()))
    return (
        type(trainer)._load_from_checkpoint is Trainer._load_from_checkpoint
        and type(optimizer).load_state_dict is Optimizer.load_state_dict
        and all(type(t) in (Tensor, nn.Parameter) and t.device.type == "cpu" for t in live)
    )


def _pairs(model: nn.Module, saved: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]] | None:
    """Each tensor of the model once, with what was saved of it; None unless all were.

    Of tensors that share memory one may be saved alone.
    """
    state = model.state_dict(keep_vars=True)
    own = {id(tensor) for tensor in chain(model.parameters(), model.buffers())}
    pairs = {
        id(live): (live, saved[name])
        for name, live in state.items()
        if id(live) in own and _fits(saved.get(name), live)
    }
    covered = {live.data_ptr() for live, _saved in pairs.values()}
    if all(isinstance(live, Tensor) and live.data_ptr() in covered for live in state.values()):
        return list(pairs.values())
    return None


def _fits(saved: object, live: Tensor) -> bool:
    like = (live.dtype, live.shape)
    return isinstance(saved, Tensor) and not saved.is_meta and (saved.dtype, saved.shape) == like


def _is_alone(tensor: Tensor) -> bool:
    """Whether all of a memory is this tensor's, as one that was just made has it."""
    storage = tensor.untyped_storage()
    return (
        tensor.is_contiguous()
        and tensor.nbytes == storage.nbytes() > 0
        and torch._C._storage_Use_Count(storage._cdata) == _OWN_HOLDERS
    )


def _parts(tensors: Mapping[Place, Tensor]) -> dict[int, memoryview]:
    return {
        place.offset: tensor.reshape(-1).view(torch.uint8).numpy().data
        for place, tensor in tensors.items()
        if tensor.numel()
    }


def _tensors(tree: object) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
