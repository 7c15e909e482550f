"""The tracker: actions and the frame before become a map of what the screen should show.

Wiring of NeuralOS (neuralos.md 4.2): a lower LSTM reads the action and the upper LSTM's last
output, its output asks one attention query of the frame before, and an upper LSTM takes answer
and query together. Both start from learned *padding* or *unknown* vectors.

The head differs on purpose (see `head`). The map's last channel is the pointer's Gaussian; its
first C channels are also the direct prediction that pretraining teaches.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.neuralos.attention import Folded, FrameAttention, sinusoid
from trainer.neuralos.config import NUM_KEYS, ModelConfig
from trainer.neuralos.head import Head, Moment
from trainer.neuralos.records import FIRST_KEY, LEFT, RIGHT, X, Y
from trainer.neuralos.windows import STARTS_PADDING, STARTS_UNKNOWN


class TrackerState(NamedTuple):
    """The five carried vectors, each (B, hidden): what a session remembers between frames."""

    lower_hidden: Tensor
    lower_cell: Tensor
    upper_hidden: Tensor
    upper_cell: Tensor
    feedback: Tensor


class Tracker(nn.Module):
    """Hierarchical LSTM over a session; see the module's text."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.config = config
        self.x_table = nn.Embedding(config.screen_width, hidden)
        self.y_table = nn.Embedding(config.screen_height, hidden)
        self.left_table = nn.Embedding(2, hidden)
        self.right_table = nn.Embedding(2, hidden)
        self.key_table = nn.Embedding(2 * NUM_KEYS, hidden)
        self.start_states = nn.Parameter(torch.zeros(2, 5, hidden))
        self.lower = nn.LSTMCell(4 * hidden, hidden)
        self.upper = nn.LSTMCell(hidden, hidden)
        self.attention = FrameAttention(config)
        self.head = Head(config)
        self._initialise()

    def start(self, batch_size: int, *, is_padding: bool) -> TrackerState:
        """The learned state before an episode's first frame, or before an unknown one."""
        vectors = self.start_states[1 if is_padding else 0]
        return TrackerState(*(vector.expand(batch_size, -1) for vector in vectors))

    def forward(
        self, previous: Tensor, actions: Tensor, starts: Tensor
    ) -> tuple[Tensor, TrackerState]:
        """Windows -> what the head needs of each step, (B, L, 3 * hidden), and the carried state.

        previous (B, L, C, h, w) normalised, actions (B, L, 184), starts (B, L) as `windows` says.
        """
        state = self.start(len(previous), is_padding=False)
        return self.run(state, previous, actions, starts)

    def run(
        self, state: TrackerState, previous: Tensor, actions: Tensor, starts: Tensor
    ) -> tuple[Tensor, TrackerState]:
        """As `forward`, from a carried state; a start mark replaces it on the way."""
        # unbind, not [:, step]: the gradient of an index is a zero tensor of the whole window
        embeddings = self.embed(actions)
        embedded = embeddings.unbind(1)
        frames = previous.flatten(3).unbind(1)
        folded = self.attention.fold()
        outputs = []
        for step, start in enumerate(starts.unbind(1)):
            state = self._restart(state, start)
            state = self._advance(state, embedded[step], frames[step], folded)
            outputs.append(torch.cat([state.upper_hidden, state.lower_hidden], dim=1))
        pressed = embeddings[..., -self.config.hidden :]
        return torch.cat([torch.stack(outputs, dim=1), pressed], dim=2), state

    def render_map(self, moment: Moment) -> Tensor:
        """The map, (N, map_channels, h, w)."""
        return torch.cat([self.head(moment), cursor_map(moment.actions, self.config)], dim=1)

    def embed(self, actions: Tensor) -> Tensor:
        """Actions (B, L, 184) -> what the lower LSTM reads of them, (B, L, 3 * hidden)."""
        fields = actions.long()
        x = fields[..., X].clamp(0, self.config.screen_width - 1)
        y = fields[..., Y].clamp(0, self.config.screen_height - 1)
        table = self.key_table.weight
        pressed = actions[..., FIRST_KEY:].to(table.dtype) @ (table[1::2] - table[0::2])
        buttons = self.left_table(fields[..., LEFT]) + self.right_table(fields[..., RIGHT])
        return torch.cat([self.x_table(x), self.y_table(y), buttons + pressed], dim=-1)

    def _restart(self, state: TrackerState, starts: Tensor) -> TrackerState:
        if not bool(starts.any()):
            return state
        mark = starts[:, None]
        unknown = self.start(len(starts), is_padding=False)
        padding = self.start(len(starts), is_padding=True)
        merged = [
            torch.where(mark == STARTS_PADDING, p, torch.where(mark == STARTS_UNKNOWN, u, s))
            for s, u, p in zip(state, unknown, padding, strict=True)
        ]
        return TrackerState(*merged)

    def _advance(
        self, state: TrackerState, embedded: Tensor, frame: Tensor, folded: Folded
    ) -> TrackerState:
        inputs = torch.cat([embedded, state.feedback], dim=1)
        lower_hidden, lower_cell = self.lower(inputs, (state.lower_hidden, state.lower_cell))
        context = self.attention(lower_hidden, frame, folded) + lower_hidden
        upper_hidden, upper_cell = self.upper(context, (state.upper_hidden, state.upper_cell))
        return TrackerState(lower_hidden, lower_cell, upper_hidden, upper_cell, upper_hidden)

    def _initialise(self) -> None:
        """Xavier into the gates, orthogonal around them, no bias (neuralos.md 4.2)."""
        for cell in (self.lower, self.upper):
            nn.init.xavier_uniform_(cell.weight_ih)
            nn.init.orthogonal_(cell.weight_hh)
            nn.init.zeros_(cell.bias_ih)
            nn.init.zeros_(cell.bias_hh)
        for axis in (self.x_table, self.y_table):
            axis.weight.data.copy_(sinusoid(*axis.weight.shape))
        for table in (self.left_table, self.right_table, self.key_table):
            nn.init.normal_(table.weight, std=0.5)


def cursor_map(actions: Tensor, config: ModelConfig) -> Tensor:
    """The pointer's Gaussian, sigma one latent cell, centre not rounded: (N, 184) -> (N, 1, h, w).

    exp(-((column - x / cell)^2 + (row - y / cell)^2) / 2), neuralos.md 4.2 point 7; a cell's
    index stands for its left upper corner there, and so here.
    """
    rows, columns = config.latent_rows, config.latent_columns
    x = actions[:, X].float() * (columns / config.screen_width)
    y = actions[:, Y].float() * (rows / config.screen_height)
    across = torch.exp(-0.5 * (torch.arange(columns) - x[:, None]) ** 2)
    down = torch.exp(-0.5 * (torch.arange(rows) - y[:, None]) ** 2)
    return (down[:, :, None] * across[:, None, :])[:, None]
