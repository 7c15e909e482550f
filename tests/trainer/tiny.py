"""A tiny model family with dropout, and a witness that sees what its runs really did.

The witness stands outside of the trainer: the rate as torch's own hook reads it inside each
optimizer step, the sample numbers as they reach the collate function, the loss as the model
returns it. Samples have no files: `TinyReader` makes their arrays from their numbers.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import Engine
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from ingest.settings import Settings
from ingest.shard_store import ShardStore
from tests.trainer.runs import TINY_REPRESENTATION
from trainer.family import Examiner, Tensors
from trainer.mix.permutation import IntArray
from trainer.mix.stream import Arrays, ShardDamaged

WIDTH = 8


@dataclass
class TinyReader:
    """Arrays made of sample numbers alone; `damaged` names the shards of those it can't read."""

    damaged: Mapping[int, str] = field(default_factory=dict)

    def prepare(self, _numbers: IntArray) -> None: ...

    def read(self, numbers: IntArray) -> Arrays:
        for number in numbers.tolist():
            if number in self.damaged:
                raise ShardDamaged(self.damaged[number], number, "a flipped bit")
        angles = numbers[:, None] * np.arange(1, WIDTH + 1)
        return {"x": np.sin(angles).astype(np.float32), "sample_numbers": numbers}

    def close(self) -> None: ...


@dataclass
class Seen:
    """One optimizer step, as seen from outside."""

    lr: float
    ids: list[int]
    loss: float


@dataclass
class Witness:
    """Every optimizer step in the order in which it happened, whatever its number."""

    steps: list[Seen] = field(default_factory=list)
    during: Callable[[int], None] = lambda _count: None  # called in the midst of the n-th step
    _ids: list[int] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)

    def batch(self, ids: IntArray) -> None:
        self._ids += ids.tolist()

    def forward(self, loss: Tensor) -> None:
        self._losses.append(loss.item())
        self.during(len(self.steps) + 1)

    def step(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        lr = float(optimizer.param_groups[0]["lr"])
        self.steps.append(Seen(lr, self._ids, sum(self._losses)))
        self._ids, self._losses = [], []

    @contextmanager
    def watching(self) -> Iterator[None]:
        hook = register_optimizer_step_pre_hook(self.step)
        try:
            yield
        finally:
            hook.remove()


class TinyModel(nn.Module):
    """Tells sin(n) from sin(2n) ... , with dropout so that the RNG matters."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(WIDTH, 16), nn.Dropout(0.3), nn.Linear(16, WIDTH))
        self.witness = witness

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loss = (self.layers(x) - x).square().mean()
        self.witness.forward(loss)
        return {"loss": loss}


@dataclass
class TinyFamily:
    """A `trainer.family.ModelFamily` that trains a step in about a millisecond."""

    witness: Witness = field(default_factory=Witness)
    name: str = "tiny"
    representation: str = TINY_REPRESENTATION
    environment: str = "drawn/1"
    batch_size: int = 4
    learning_rate: float = 0.01
    save_every: int = 1_000
    changeable_modules: Collection[str] | None = None
    disk_is_full: bool = False
    damaged: Mapping[int, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def load_model(self) -> nn.Module:
        return TinyModel(self.witness)

    def open_reader(self, _engine: Engine, _store: ShardStore) -> TinyReader:
        return TinyReader(self.damaged)

    def collate(self, arrays: Arrays) -> Tensors:
        self.witness.batch(arrays["sample_numbers"])
        return {"x": torch.from_numpy(arrays["x"])}

    def write_config(self, folder: Path) -> None:
        if self.disk_is_full:
            raise OSError(28, "No space left on device")
        (folder / "model.json").write_text("{}")

    def optimizer_arguments(self) -> dict[str, Any]:
        return {"max_grad_norm": 1.0, "use_cpu": True} | self.arguments

    def open_examiner(self, _engine: Engine, _settings: Settings) -> Examiner:
        raise NotImplementedError("nothing judges a tiny model")
