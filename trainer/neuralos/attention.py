"""Attention of the tracker over the frame before: one query, a token a latent cell.

Tokens are a linear map of a cell's C channels, with learned position embeddings added *after* the
projection, so they are in keys and values alike (neuralos.md 4.2 point 5). Since a token is affine
in its C = 8 channels, keys and values of width 64 are never built: queries are carried into latent
space instead. Same numbers up to rounding, a quarter of the tracker's time (24 steps of 16
windows: 0.39 s with keys and values, 0.10 s folded, forward and backward on one thread).
"""

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.neuralos.config import ModelConfig


class Folded(NamedTuple):
    """The projections of one forward pass, for heads n, head width d, channels C, cells P."""

    key_channels: Tensor  # (n, d, C)
    key_cells: Tensor  # (n, d, P)
    value_channels: Tensor  # (n, C, d)
    value_cells: Tensor  # (n, P, d)


class FrameAttention(nn.Module):
    """Multi-head attention with one query over the latent cells of a frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.token_width
        self.num_heads = config.num_heads
        self.scale = 1 / math.sqrt(width / config.num_heads)
        self.query = nn.Linear(config.hidden, width)
        self.token = nn.Linear(config.latent_channels, width)
        self.position = nn.Parameter(_sinusoid_2d(config, width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, config.hidden)
        for linear in (self.query, self.token, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def fold(self) -> Folded:
        """Compose the token projection with the key's and the value's, once per window."""
        cells = self.position + self.token.bias
        channels = self.token.weight
        value_cells = self.value(cells)
        return Folded(
            self._by_head(self.key.weight @ channels),
            self._by_head((cells @ self.key.weight.T).T),
            self._by_head(self.value.weight @ channels).transpose(1, 2),
            self._by_head(value_cells.T).transpose(1, 2),
        )

    def forward(self, hidden: Tensor, frame: Tensor, folded: Folded) -> Tensor:
        """(B, hidden) asks of (B, C, P): the answer, (B, hidden)."""
        query = (
            self.query(hidden).view(len(hidden), self.num_heads, -1).transpose(0, 1) * self.scale
        )
        by_channel = torch.bmm(query, folded.key_channels).transpose(0, 1)
        by_cell = torch.bmm(query, folded.key_cells).transpose(0, 1)
        weights = torch.baddbmm(by_cell, by_channel, frame).softmax(dim=2)
        channels = torch.bmm(weights, frame.transpose(1, 2)).transpose(0, 1)
        answer = torch.bmm(channels, folded.value_channels)
        answer = torch.baddbmm(answer, weights.transpose(0, 1), folded.value_cells)
        return cast(Tensor, self.out(answer.transpose(0, 1).flatten(1)))

    def _by_head(self, projection: Tensor) -> Tensor:
        return projection.reshape(self.num_heads, -1, projection.shape[1])


def sinusoid(length: int, width: int) -> Tensor:
    """The 1-D position code of Vaswani et al. (2017), section 3.5: (length, width)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def _sinusoid_2d(config: ModelConfig, width: int) -> Tensor:
    """Half the width codes the row, half the column: (h * w, width)."""
    rows = sinusoid(config.latent_rows, width // 2)[:, None].expand(-1, config.latent_columns, -1)
    columns = sinusoid(config.latent_columns, width // 2)[None].expand(config.latent_rows, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
