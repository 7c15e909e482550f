"""The tracker's head: what the state decided becomes channels of the latent grid.

A frame is mostly the frame before. So the first C channels, the direct prediction, are that frame
with the pointer's stamp moved (one learned stamp for each of the 64 places of its tip inside a
cell; the pointer's share of a latent depends on little else: 0.0002 of 0.53 was left on the sky),
erased where something opens over it, plus what is drawn there. Both are decided from the state and
from what the pointer points at (the 3 x 3 cells under it and its tip's place among them), for that
is what a click acts on. The decision is spread over the whole grid, and written as a patch of cells
around the pointer, where menus open; a small convolutional stack joins both with the frame before.

Without these short ways the state must carry the pixels of every open window, and the pointer took
more than 1,500 steps to appear (half of all error lay on its 4 cells of 192); without the look
under the pointer every right click half opened a menu, on windows too.
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

_DECIDED_WIDTH = 320
_UNDER_CELLS = 3
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
        self.num_drawn = channels
        under = config.latent_channels * _UNDER_CELLS**2
        self.decide = nn.Linear(3 * config.hidden + under + 2 * _PLACES, _DECIDED_WIDTH)
        self.spread = nn.Linear(_DECIDED_WIDTH, math.prod(self.grid))
        self.written = nn.Linear(_DECIDED_WIDTH, (channels + 1) * _PATCH_CELLS**2)
        self.stamps = nn.Embedding(_PLACES**2, config.latent_channels * _PATCH_CELLS**2)
        self.shift = nn.Linear(_DECIDED_WIDTH, width)
        joined = _SPREAD_CHANNELS + channels + 1 + 2 * config.latent_channels
        self.first = nn.Conv2d(joined, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels + 1, 3, padding=1)
        for parameters in (self.stamps, self.last, self.written):
            for silent in parameters.parameters():
                nn.init.zeros_(silent)

    def forward(self, moment: Moment) -> Tensor:
        """All map channels but the Gaussian, (N, map_channels - 1, h, w)."""
        states, previous, actions, before = moment
        decided = functional.silu(self.decide(torch.cat([states, self._under(moment)], dim=1)))
        spread = functional.leaky_relu(self.spread(decided), 0.01).view(-1, *self.grid)
        written = self._placed(self.written(decided) * _WRITTEN_SCALE, actions)
        pointer, pointer_before = self._stamp(actions), self._stamp(before)
        sources = torch.cat([spread, written, pointer - pointer_before, previous], dim=1)
        mixed = functional.silu(self.first(sources) + self.shift(decided)[:, :, None, None])
        mixed = mixed + functional.silu(self.second(mixed))
        drawn, erased = (self.last(mixed) + written).split([self.num_drawn, 1], dim=1)
        kept = (previous - pointer_before) * (1 - erased) + pointer
        return drawn + functional.pad(kept, (0, 0, 0, 0, 0, self.num_drawn - kept.shape[1]))

    def _under(self, moment: Moment) -> Tensor:
        """What the pointer points at: the cells around its tip and the tip's place in its cell."""
        row, row_place = self._cell(moment.actions[:, Y], self.config.latent_rows)
        column, column_place = self._cell(moment.actions[:, X], self.config.latent_columns)
        framed = functional.pad(moment.previous, (1, 1, 1, 1))
        offsets = torch.arange(_UNDER_CELLS)
        number = torch.arange(len(row))[:, None, None]
        at = (number, (row[:, None] + offsets)[:, :, None], (column[:, None] + offsets)[:, None])
        cells = framed.permute(0, 2, 3, 1)[at].flatten(1)
        places = [functional.one_hot(place, _PLACES) for place in (row_place, column_place)]
        return torch.cat([cells, *(place.to(cells.dtype) for place in places)], dim=1)

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
