"""The state of a transformers.Trainer, into a folder and back, in Hugging Face's own layout.

In: a trainer between two steps. Out: model.safetensors, optimizer.pt, scheduler.pt, rng_state.pth,
trainer_state.json; where several processes train, one rng_state_<rank>.pth of each, and the folder
is the same otherwise; and back again, inside the running loop, bit for bit: a step taken after
`restore_state` equals the one taken after `copy_state`. Pickles are read with weights_only alone.
The trainer's own private savers are called, so that a subclass that saves more keeps doing so.
What other ranks have is collected first: rank 0 alone writes, so that its folder is whole or not
there for all of them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from trainer.checkpoints.copies import Memory, put_back
from trainer.checkpoints.exchange import LARGE_FILES, Exchange, inner_optimizer
from trainer.checkpoints.folder import Places, WriteState
from trainer.checkpoints.places import places_in
from trainer.ranks.alone import Member
from trainer.ranks.sharded import is_sharded, load_model, shards_of_optimizer, whole

# What belongs to the process that runs, not to the state that it goes back to.
_OF_THE_PROCESS = {
    "is_local_process_zero",
    "is_world_process_zero",
    "max_steps",
    "num_train_epochs",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "train_batch_size",
    "stateful_callbacks",
}


@dataclass(frozen=True)
class Copied:
    """What is large, and the other ranks' part: their generators, by the name of their file."""

    model: dict[str, Any]
    optimizer: dict[str, Any]
    generators: Mapping[str, bytes]


def copy_state(
    trainer: Trainer, ranks: Member, memory: Memory | None, leaving: Collection[int] = ()
) -> Copied:
    """Copy what is large and what the other ranks have of all that the next step depends on.

    Every rank calls this; rank 0 alone has a memory to copy it into, and gets all of it. What is at
    the addresses `leaving` is not copied: an exchange that comes before the next step leaves it.
    """
    assert trainer.model is not None
    assert trainer.optimizer is not None
    generators = {} if ranks.count == 1 else _collect_generators(trainer, ranks)
    state = (trainer.model.state_dict(), trainer.optimizer.state_dict())
    if is_sharded(trainer.model):
        model, optimizer = whole(state, is_kept=memory is not None)
    else:
        model, optimizer = memory.copy(state, leaving) if memory is not None else ({}, {})
    return Copied(model, optimizer, generators)


def _collect_generators(trainer: Trainer, ranks: Member) -> Mapping[str, bytes]:
    """All ranks' generators. One that fails gives none, for the others count on its part."""
    own = b""
    try:
        with TemporaryDirectory() as folder:
            trainer._save_rng_state(folder)
            own = next(Path(folder).iterdir()).read_bytes()
    finally:
        parts = ranks.collect(own)
    return {f"rng_state_{rank}.pth": part for rank, part in enumerate(parts)}


def lay_down(trainer: Trainer, copied: Copied, folder: Path) -> WriteState:
    """Write what is small; what is returned writes the rest, in any thread."""
    assert trainer.lr_scheduler is not None
    torch.save(trainer.lr_scheduler.state_dict(), folder / SCHEDULER_NAME)
    trainer._save_scaler(str(folder))
    if not copied.generators:
        trainer._save_rng_state(str(folder))
    for name, generators in copied.generators.items():
        (folder / name).write_bytes(generators)
    trainer.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def write() -> Places:
        trainer._save(str(folder), state_dict=copied.model)
        torch.save(copied.optimizer, folder / OPTIMIZER_NAME)
        large = [name for name in LARGE_FILES if (folder / name).exists()]
        return {name: places_in(folder / name) for name in large}

    return write


def restore_state(trainer: Trainer, folder: Path, exchange: Exchange | None) -> None:
    """Go back to what was written, between two steps of the running loop.

    What is large comes by the exchange, where there is one.
    """
    assert trainer.model is not None
    assert trainer.lr_scheduler is not None
    if exchange is not None:
        exchange.carry_out()
    elif is_sharded(trainer.model):
        _restore_shards(trainer, trainer.model, folder)
    else:
        trainer._load_from_checkpoint(str(folder))
        _restore_optimizer(trainer, folder)
    trainer.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULER_NAME, weights_only=True))
    trainer._load_scaler(str(folder))
    trainer._load_rng_state(str(folder))
    _restore_progress(trainer, TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME)))


def _restore_optimizer(trainer: Trainer, folder: Path) -> None:
    assert trainer.optimizer is not None
    saved = _saved_optimizer(folder)
    trainer.optimizer.load_state_dict(put_back(saved, trainer.optimizer.state_dict()))


def _restore_shards(trainer: Trainer, model: nn.Module, folder: Path) -> None:
    """The files as one process wrote them, of which each rank takes its part."""
    load_model(model, load_file(folder / SAFE_WEIGHTS_NAME))
    inner = inner_optimizer(trainer)
    inner.load_state_dict(shards_of_optimizer(_saved_optimizer(folder), inner))


def _saved_optimizer(folder: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(
        folder / OPTIMIZER_NAME, map_location="cpu", mmap=True, weights_only=True
    )
    return saved


def _restore_progress(trainer: Trainer, saved: TrainerState) -> None:
    for field in fields(TrainerState):
        if field.name not in _OF_THE_PROCESS:
            setattr(trainer.state, field.name, getattr(saved, field.name))
    # The loop's own sums since its last log line belong to the steps that are undone.
    trainer._tr_loss = torch.zeros_like(trainer._tr_loss)
    trainer._total_loss_scalar = 0.0
    trainer._globalstep_last_logged = saved.global_step
    trainer.control.should_log = False
    trainer.control.should_save = False
    trainer.control.should_evaluate = False
    # HF's own callback has set it where the undone step was the last one.
    trainer.control.should_training_stop = False
