"""NeuralOS as a run sees it (`trainer.family.ModelFamily`): what it draws and how it is trained.

In: the folder of a base model, by default the shipped one. Guaranteed: a run is pinned to the
encoder that its base was trained with, and to the desktop whose frames that encoder knows.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from torch import nn

from ingest.replay.drawn import DrawnDesktop
from ingest.settings import Settings
from ingest.shard_store import ShardStore
from trainer.family import Examiner, Tensors, adamw_arguments
from trainer.mix.stream import Arrays, Reader
from trainer.neuralos.config import ModelConfig
from trainer.neuralos.examiner import NeuralOSExaminer
from trainer.neuralos.model import CONFIG_NAME, SHIPPED, NeuralOS
from trainer.neuralos.recipe import RECIPE
from trainer.neuralos.window_reader import WindowReader
from trainer.neuralos.windows import collate


class NeuralOSFamily:
    """The model in `base`, trained by the recipe's settings."""

    name = "neuralos"
    environment = f"{DrawnDesktop.name}/{DrawnDesktop.version}"
    batch_size = RECIPE.batch_size
    learning_rate = RECIPE.learning_rate
    save_every = RECIPE.save_every
    changeable_modules: Collection[str] | None = None

    def __init__(self, base: Path | None = None) -> None:
        """Raises FileNotFoundError where the folder holds no model."""
        self._base = base or SHIPPED
        self._config = ModelConfig.from_json((self._base / CONFIG_NAME).read_text())
        self.representation = f"latent:{self._config.encoder_hash}"

    def load_model(self) -> nn.Module:
        """The base model."""
        return NeuralOS.load(self._base)

    def open_reader(self, engine: Engine, store: ShardStore) -> Reader:
        """Windows of latents and actions."""
        return WindowReader(
            engine,
            store,
            self.representation,
            length=RECIPE.window,
            latent_shape=self._config.latent_shape,
        )

    def collate(self, arrays: Arrays) -> Tensors:
        """The arguments of the model's forward."""
        return collate(arrays, self._config)

    def write_config(self, folder: Path) -> None:
        """Write the model's sizes, so that `NeuralOS.load` reads the folder."""
        (folder / CONFIG_NAME).write_text(self._config.to_json() + "\n")

    def optimizer_arguments(self) -> dict[str, Any]:
        """AdamW's settings, on the CPU."""
        return adamw_arguments(RECIPE.betas, RECIPE.weight_decay, RECIPE.max_grad_norm)

    def open_examiner(self, engine: Engine, settings: Settings) -> Examiner:
        """Replayed episodes of the `eval` split judge it, as the suites say."""
        return NeuralOSExaminer(engine, settings)
