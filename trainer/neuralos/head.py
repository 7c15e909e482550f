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
under the pointer a right click on the bare desktop showed half a menu's contrast after 150 steps.
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
        under = self._under(previous, actions)
        decided = functional.silu(self.decide(torch.cat([states, under], dim=1)))
        spread = functional.leaky_relu(self.spread(decided), 0.01).view(-1, *self.grid)
        written = self._placed(self.written(decided) * _WRITTEN_SCALE, actions)
        stamp_before = self._stamp(before)
        moved = self._stamp(actions) - stamp_before
        sources = torch.cat([spread, written, moved, previous], dim=1)
        mixed = functional.silu(self.first(sources) + self.shift(decided)[:, :, None, None])
        mixed = mixed + functional.silu(self.second(mixed))
        decision: Tensor = self.last(mixed) + written
        drawn, erased = decision[:, : self.num_drawn], decision[:, self.num_drawn :]
        kept = previous + moved - erased * (previous - stamp_before)
        return drawn + functional.pad(kept, (0, 0, 0, 0, 0, self.num_drawn - kept.shape[1]))

    def _under(self, previous: Tensor, actions: Tensor) -> Tensor:
        """What the pointer points at: the cells around its tip and the tip's place in its cell."""
        margin = (_CELLS_BEFORE, _UNDER_CELLS - _CELLS_BEFORE - 1)
        framed = functional.pad(previous, 2 * margin).permute(0, 2, 3, 1)
        cells = framed[self._around(actions, _UNDER_CELLS)].flatten(1)
        _, places = self._tip(actions)
        return torch.cat([cells, functional.one_hot(places, _PLACES).flatten(1)], dim=1)

    def _stamp(self, actions: Tensor) -> Tensor:
        """The pointer's own share of the latents, (N, C, h, w)."""
        _, places = self._tip(actions)
        stamps = self.stamps(places[:, 0] * _PLACES + places[:, 1]) * _STAMP_SCALE
        return self._placed(stamps * (actions[:, X] >= 0)[:, None], actions)

    def _placed(self, values: Tensor, actions: Tensor) -> Tensor:
        """Patches (N, channels * 6 * 6) laid around the pointer's cell, zero elsewhere."""
        rows, columns = self.config.latent_rows, self.config.latent_columns
        patches = values.view(len(values), _PATCH_CELLS, _PATCH_CELLS, -1)
        margin = _PATCH_CELLS - 1
        canvas = patches.new_zeros(len(values), rows + margin, columns + margin, patches.shape[3])
        placed = canvas.index_put(self._around(actions, _PATCH_CELLS), patches)
        begin = _CELLS_BEFORE
        return placed[:, begin : begin + rows, begin : begin + columns].permute(0, 3, 1, 2)

    def _around(self, actions: Tensor, num_cells: int) -> tuple[Tensor, Tensor, Tensor]:
        """Index of squares of cells around the tips, on a grid with a margin of `_CELLS_BEFORE`."""
        cells, _ = self._tip(actions)
        squares = cells[:, :, None] + torch.arange(num_cells)
        number = torch.arange(len(cells))[:, None, None]
        return number, squares[:, 0, :, None], squares[:, 1, None, :]

    def _tip(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The cells that hold the pointers' tips and the tips' places there, 0 to 7: (N, 2) each.

        Row first, then column.
        """
        screen = torch.tensor([self.config.screen_height, self.config.screen_width])
        cells = torch.tensor([self.config.latent_rows, self.config.latent_columns])
        tips = actions[:, [Y, X]].long().clamp(min=0).minimum(screen - 1)
        places = tips * (cells * _PLACES) // screen
        return places // _PLACES, places % _PLACES
