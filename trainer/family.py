"""What a run, and whoever judges it, asks of a model family; `trainer.recipes` names them.

In: batches of the stream as arrays. Out: a model whose forward returns {"loss": scalar}, its
tensors, what makes a checkpoint's folder loadable by the family alone, and what judges one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine
from torch import Tensor, nn

from ingest.settings import Settings
from ingest.shard_store import ShardStore
from trainer.mix.stream import Arrays, Reader
from trainer.recipes import class_of

Tensors = dict[str, Tensor]


class BaseRefused(ValueError):
    """The folder to start from holds no model of the family; the message says what is missing."""


@dataclass(frozen=True)
class Judgement:
    """What a suite found out about a checkpoint: plain JSON values, and the headlines among them.

    Each of `metrics` becomes the metric `eval:<suite>:<name>`; None where it is no number.
    """

    result: Mapping[str, Any]
    metrics: Mapping[str, float | None]


class Examiner(Protocol):
    """Judges checkpoints of one family; what it prepared for one is kept for the next."""

    def judge(self, suite: str, checkpoint: Path, environment: str) -> Judgement:
        """Judge the model in a checkpoint's folder on held-out samples of an environment.

        Raises ValueError for an unknown suite, or where no held-out sample is of it.
        """


class Family(Protocol):
    """What every run knows of its model."""

    name: str
    save_every: int  # steps between automatic checkpoints
    changeable_modules: Collection[str] | None  # that commands may freeze or reset; None: any

    def write_config(self, folder: Path) -> None:
        """Write what loading needs beside model.safetensors."""


def adamw_arguments(
    betas: tuple[float, float], weight_decay: float, max_grad_norm: float
) -> dict[str, Any]:
    """AdamW on the CPU, as fields of transformers.TrainingArguments."""
    return {
        "adam_beta1": betas[0],
        "adam_beta2": betas[1],
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "use_cpu": True,
    }


class ModelFamily(Family, Protocol):
    """One kind of model, what it draws, and the settings under which it is trained."""

    representation: str  # of the samples that it draws, for example "latent:<encoder hash>"
    environment: str  # in which those were replayed, or "text/1"
    batch_size: int  # samples of one optimizer step
    learning_rate: float  # unless a run names another

    def load_model(self) -> nn.Module:
        """The model that a new run starts from; what is random in it is torch's generator's."""

    def open_reader(self, engine: Engine, store: ShardStore) -> Reader:
        """What reads its samples."""

    def collate(self, arrays: Arrays) -> Tensors:
        """The keyword arguments of the model's forward."""

    def optimizer_arguments(self) -> dict[str, Any]:
        """Fields of transformers.TrainingArguments: betas, weight decay, clipping."""

    def open_examiner(self, engine: Engine, settings: Settings) -> Examiner:
        """What judges its checkpoints."""


def open_family(recipe: str, base: Path | None = None) -> ModelFamily:
    """The family of a recipe, to start from the model in `base`, or from its own.

    Raises UnknownRecipe, or what the family says of the base (BaseRefused, FileNotFoundError).
    """
    module, name = class_of(recipe)
    family: ModelFamily = getattr(import_module(module), name)(base)
    return family
