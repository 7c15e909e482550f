"""NeuralOS: tracker and renderer as one module that returns a loss.

`forward(**batch)` takes what `windows.collate` made and answers {"loss": scalar}, as the Hugging
Face Trainer wants it (`remove_unused_columns=False`). Stage `joint` trains both by the renderer's
x0 error, stage `tracker` pretrains the tracker on the map's first C channels. Given torch's RNG
state, forward and backward are bit-reproducible on a CPU.

The frames before are noised a little while training (deviation drawn per window from
[0, context_noise]): the live player feeds its own predictions back, which are never exact.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.head import Moment, actions_before
from trainer.neuralos.renderer import Renderer
from trainer.neuralos.tracker import Tracker

Stage = Literal["tracker", "joint"]

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "model.json"
SHIPPED = Path(__file__).parent / "base"


class NeuralOS(nn.Module):
    """The world model of a desktop."""

    def __init__(self, config: ModelConfig, *, stage: Stage = "joint") -> None:
        super().__init__()
        self.sizes = config  # not `config`: the HF Trainer writes into that
        self.stage = stage
        self._channel_weights = torch.tensor(config.latent_weights)[:, None, None]
        self.tracker = Tracker(config)
        self.renderer = Renderer(config)

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> Self:
        """Read `model.json` and `model.safetensors`, by default the shipped base model's."""
        model = cls(ModelConfig.from_json((folder / CONFIG_NAME).read_text()))
        stored = load_file(folder / WEIGHTS_NAME)
        model.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
        return model

    def save(self, folder: Path) -> None:
        """Write what `load` reads, as float16: half the bytes, no loss that evaluation can see."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(self.sizes.to_json() + "\n")
        halves = {name: tensor.half().contiguous() for name, tensor in self.state_dict().items()}
        save_file(halves, folder / WEIGHTS_NAME)

    def forward(  # the Trainer passes a batch by its names
        self,
        *,
        previous: Tensor,
        actions: Tensor,
        starts: Tensor,
        targets: Tensor,
        supervised: Tensor,
        weights: Tensor,
    ) -> dict[str, Tensor]:
        """One batch -> {"loss"}: the mean squared error of the supervised frames, both weighted."""
        previous = self._with_noise(previous)
        states, _ = self.tracker(previous, actions, starts)
        at = torch.arange(len(states))[:, None], supervised
        steps = (states, previous, actions, actions_before(actions, starts))
        maps = self.tracker.render_map(Moment(*(part[at].flatten(0, 1) for part in steps)))
        expected = targets.flatten(0, 1)
        predicted = self._predict(maps, expected)
        errors = ((predicted - expected).square() * self._channel_weights).mean(dim=(1, 2, 3))
        flat = weights.flatten()
        return {"loss": (errors * flat).sum() / flat.sum()}

    def parameter_groups(self) -> dict[str, Iterator[nn.Parameter]]:
        """The optimizer's groups by name."""
        return {"tracker": self.tracker.parameters(), "renderer": self.renderer.parameters()}

    def _predict(self, maps: Tensor, expected: Tensor) -> Tensor:
        if self.stage == "tracker":
            return maps[:, : self.sizes.latent_channels]
        return self.renderer.denoise_one(expected, maps)

    def _with_noise(self, previous: Tensor) -> Tensor:
        if not self.training:
            return previous
        deviation = torch.rand(len(previous), 1, 1, 1, 1) * self.sizes.context_noise
        return previous + deviation * torch.randn_like(previous)
