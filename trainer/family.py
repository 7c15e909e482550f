"""What a run asks of a model family; `trainer.neuralos.family` answers for NeuralOS.

In: batches of the stream as arrays. Out: a model whose forward returns {"loss": scalar}, its
tensors, and what makes a checkpoint's folder loadable by the family alone.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine
from torch import Tensor, nn

from trainer.mix.stream import Arrays, Reader

Tensors = dict[str, Tensor]


class Family(Protocol):
    """What every run knows of its model."""

    name: str
    save_every: int  # steps between automatic checkpoints
    changeable_modules: Collection[str] | None  # that commands may freeze or reset; None: any

    def write_config(self, folder: Path) -> None:
        """Write what loading needs beside model.safetensors."""


class ModelFamily(Family, Protocol):
    """One kind of model, what it draws, and the settings under which it is trained."""

    representation: str  # of the samples that it draws, for example "latent:<encoder hash>"
    environment: str  # in which those were replayed
    batch_size: int  # samples of one optimizer step
    learning_rate: float  # unless a run names another

    def load_model(self) -> nn.Module:
        """The base model that a new run starts from."""

    def open_reader(self, engine: Engine, shards_path: Path) -> Reader:
        """What reads its samples."""

    def collate(self, arrays: Arrays) -> Tensors:
        """The keyword arguments of the model's forward."""

    def optimizer_arguments(self) -> dict[str, Any]:
        """Fields of transformers.TrainingArguments: betas, weight decay, clipping."""
