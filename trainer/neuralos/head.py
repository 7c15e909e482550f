"""The tracker's head: what the state decided becomes channels of the latent grid.

A frame is mostly the frame before. So the first C channels, the direct prediction, are that frame
with the pointer's stamp moved (one learned stamp for each of the 64 places of its tip inside a
cell; the pointer's share of a latent depends on little else: 0.0002 of 0.53 was left on the sky),
plus what three sources say through a small convolutional stack: the state spread over the whole
grid, the state's own patch of cells around the pointer, where menus open, and the frame before.
Without these short ways the state must carry the pixels of every open window, and the pointer took
more than 1,500 steps to appear (half of all error lay on its 4 cells of 192).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.records import X, Y
from trainer.neuralos.windows import STARTS_PADDING

NO_POINTER = -1

_SPREAD_CHANNELS = 16
_PATCH_CELLS = 6
_CELLS_BEFORE = 1  # of a patch, left of and above the pointer's own cell
_PLACES = 8  # of the tip inside a cell, along one side: one a pixel
_WRITTEN_SCALE = 4.0
_STAMP_SCALE = 10.0  # AdamW moves a weight by its learning rate: stamps are to be learned at once


class Moment(NamedTuple):
    """What the map of a frame is made from."""

    states: Tensor  # (N, 3 * hidden): both LSTMs' outputs, and what is pressed in this very tick
    previous: Tensor  # (N, C, h, w): the frame before, normalised
    actions: Tensor  # (N, 184): the frame's own action
    before: Tensor  # (N, 184): the action of the frame before; x is -1 where there was none


def actions_before(actions: Tensor, starts: Tensor) -> Tensor:
    """Windows' actions (B, L, 184) a step later, with x = -1 where an episode starts."""
    before = torch.cat([actions[:, :1], actions[:, :-1]], dim=1)
    before[:, 0, X] = NO_POINTER
    before[..., X].masked_fill_(starts == STARTS_PADDING, NO_POINTER)
    return before


class Head(nn.Module):
    """Moments become the map's channels but the Gaussian."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = (_SPREAD_CHANNELS, config.latent_rows, config.latent_columns)
        width, channels = config.head_width, config.map_channels - 1
        self.spread = nn.Linear(3 * config.hidden, math.prod(self.grid))
        self.written = nn.Linear(3 * config.hidden, channels * _PATCH_CELLS**2)
        self.stamps = nn.Embedding(_PLACES**2, config.latent_channels * _PATCH_CELLS**2)
        self.shift = nn.Linear(3 * config.hidden, width)
        joined = _SPREAD_CHANNELS + channels + 2 * config.latent_channels
        self.first = nn.Conv2d(joined, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        for silent in (self.stamps, self.last, self.written):
            nn.init.zeros_(silent.weight)

    def forward(self, moment: Moment) -> Tensor:
        """All map channels but the Gaussian, (N, map_channels - 1, h, w)."""
        states, previous, actions, before = moment
        spread = functional.leaky_relu(self.spread(states), 0.01).view(-1, *self.grid)
        written = self._placed(self.written(states) * _WRITTEN_SCALE, actions)
        moved = self._stamp(actions) - self._stamp(before)
        sources = torch.cat([spread, written, moved, previous], dim=1)
        mixed = functional.silu(self.first(sources) + self.shift(states)[:, :, None, None])
        mixed = mixed + functional.silu(self.second(mixed))
        kept = previous + moved
        decided: Tensor = self.last(mixed) + written
        unchanged = decided.shape[1] - kept.shape[1]
        return decided + functional.pad(kept, (0, 0, 0, 0, 0, unchanged))

    def _stamp(self, actions: Tensor) -> Tensor:
        """The pointer's own share of the latents, (N, C, h, w)."""
        _, row_place = self._cell(actions[:, Y], self.config.latent_rows)
        _, column_place = self._cell(actions[:, X], self.config.latent_columns)
        stamps = self.stamps(row_place * _PLACES + column_place) * _STAMP_SCALE
        return self._placed(stamps * (actions[:, X] >= 0)[:, None], actions)

    def _placed(self, values: Tensor, actions: Tensor) -> Tensor:
        """Patches (N, channels * 6 * 6) laid around the pointer's cell, zero elsewhere."""
        rows, columns = self.config.latent_rows, self.config.latent_columns
        row, _ = self._cell(actions[:, Y], rows)
        column, _ = self._cell(actions[:, X], columns)
        patches = values.view(len(values), _PATCH_CELLS, _PATCH_CELLS, -1)
        offsets = torch.arange(_PATCH_CELLS)
        number = torch.arange(len(values))[:, None, None]
        at = (number, (row[:, None] + offsets)[:, :, None], (column[:, None] + offsets)[:, None])
        margin = _PATCH_CELLS - 1
        canvas = patches.new_zeros(len(values), rows + margin, columns + margin, patches.shape[3])
        begin = _CELLS_BEFORE
        placed = canvas.index_put(at, patches)[:, begin : begin + rows, begin : begin + columns]
        return placed.permute(0, 3, 1, 2)

    def _cell(self, coordinate: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
        """Logical pixels -> the latent cell that holds the tip, and its place there, 0 to 7."""
        is_down = num_cells == self.config.latent_rows
        screen = self.config.screen_height if is_down else self.config.screen_width
        places = coordinate.long().clamp(0, screen - 1) * (num_cells * _PLACES) // screen
        return places // _PLACES, places % _PLACES
