"""Sizes of the model, stored beside its weights as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Self

NUM_KEYS = 179


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that the weights depend on; the defaults are `tiny`.

    `encoder_hash`, `latent_mean` and `latent_std` tie a model to one encoder: batches arrive with
    raw latents, and the model's own numbers normalise them. `latent_weights` (mean 1) say how much
    of the pixels hangs on each channel: the loss weighs by them.
    """

    encoder_hash: str
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    latent_weights: tuple[float, ...]
    latent_rows: int = 12
    latent_columns: int = 16
    screen_width: int = 512
    screen_height: int = 384
    hidden: int = 160
    token_width: int = 64
    num_heads: int = 4
    map_channels: int = 24
    head_width: int = 64
    renderer_channels: tuple[int, ...] = (32, 64)
    num_timesteps: int = 1000
    num_supervised: int = 4
    context_noise: float = 0.05

    @property
    def latent_channels(self) -> int:
        """Channels of a latent, one mean and one deviation each."""
        return len(self.latent_mean)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of one latent."""
        return self.latent_channels, self.latent_rows, self.latent_columns

    def to_json(self) -> str:
        """The JSON that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s words; raises TypeError naming an unknown or missing field."""
        fields = json.loads(text)
        for name in ("latent_mean", "latent_std", "latent_weights", "renderer_channels"):
            fields[name] = tuple(fields[name])
        return cls(**fields)
