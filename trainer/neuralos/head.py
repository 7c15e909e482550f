"""The tracker's head: what the state decided becomes channels of the latent grid.

Three sources meet in a small convolutional stack: the state spread over the whole grid (one linear
layer per window state, not a picture per neuron of width 98304 as in NeuralOS), the frame before,
so that the state carries decisions and not the pixels of every open window, and a patch of cells
around the pointer. Menus open at the pointer and clicks act there, so the state may write relative
to it; a learned stamp for each of the 64 places of its tip inside a cell draws the pointer itself,
which the Gaussian alone took too long to teach (136 px mean error after 800 joint steps).
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.records import X, Y

_SPREAD_CHANNELS = 16
_PATCH_CHANNELS = 12
_PATCH_CELLS = 6
_CELLS_BEFORE = 1  # of the patch, left of and above the pointer's own cell
_PLACES = 8  # of the tip inside a cell, along one side: one a pixel


class Head(nn.Module):
    """(N, 2 * hidden) states, (N, C, h, w) frames before, (N, 184) actions -> map channels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.grid = (_SPREAD_CHANNELS, config.latent_rows, config.latent_columns)
        width = config.head_width
        joined = _SPREAD_CHANNELS + _PATCH_CHANNELS + config.latent_channels
        self.spread = nn.Linear(2 * config.hidden, math.prod(self.grid))
        self.patch = PointerPatch(config)
        self.shift = nn.Linear(2 * config.hidden, width)
        self.first = nn.Conv2d(joined, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, config.map_channels - 1, 3, padding=1)

    def forward(self, states: Tensor, previous: Tensor, actions: Tensor) -> Tensor:
        """All map channels but the pointer's Gaussian, (N, map_channels - 1, h, w)."""
        spread = functional.leaky_relu(self.spread(states), 0.01).view(-1, *self.grid)
        sources = torch.cat([spread, self.patch(states, actions), previous], dim=1)
        mixed = functional.silu(self.first(sources) + self.shift(states)[:, :, None, None])
        mixed = mixed + functional.silu(self.second(mixed))
        return cast(Tensor, self.last(mixed))


class PointerPatch(nn.Module):
    """What state and pointer write on the cells around the pointer, zero elsewhere."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        values = _PATCH_CHANNELS * _PATCH_CELLS**2
        self.written = nn.Linear(2 * config.hidden, values)
        self.stamps = nn.Embedding(_PLACES**2, values)
        nn.init.normal_(self.stamps.weight, std=0.1)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """(N, 2 * hidden), (N, 184) -> (N, patch channels, h, w)."""
        rows, columns = self.config.latent_rows, self.config.latent_columns
        row, row_place = _cell(actions[:, Y], rows, self.config.screen_height)
        column, column_place = _cell(actions[:, X], columns, self.config.screen_width)
        values = self.written(states) + self.stamps(row_place * _PLACES + column_place)
        patches = values.view(-1, _PATCH_CELLS, _PATCH_CELLS, _PATCH_CHANNELS)

        offsets = torch.arange(_PATCH_CELLS)
        number = torch.arange(len(actions))[:, None, None]
        canvas = patches.new_zeros(
            len(actions), rows + _PATCH_CELLS - 1, columns + _PATCH_CELLS - 1, _PATCH_CHANNELS
        )
        at = (number, (row[:, None] + offsets)[:, :, None], (column[:, None] + offsets)[:, None])
        placed = canvas.index_put(at, patches)
        begin = _CELLS_BEFORE
        inside: Tensor = placed[:, begin : begin + rows, begin : begin + columns]
        return inside.permute(0, 3, 1, 2)


def _cell(coordinate: Tensor, num_cells: int, screen: int) -> tuple[Tensor, Tensor]:
    """Logical pixels -> the latent cell that holds the tip, and its place there, 0 to 7."""
    places = coordinate.long().clamp(0, screen - 1) * (num_cells * _PLACES) // screen
    return places // _PLACES, places % _PLACES
