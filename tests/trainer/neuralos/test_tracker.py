"""The tracker's carried state and the pointer's channel."""

import math
from collections.abc import Callable

import pytest
import torch

from tests.trainer.neuralos.conftest import NumpyBatch
from trainer.neuralos.attention import FrameAttention
from trainer.neuralos.config import ModelConfig
from trainer.neuralos.model import NeuralOS
from trainer.neuralos.records import ACTION_WIDTH, FIRST_KEY, X, Y
from trainer.neuralos.tracker import cursor_map
from trainer.neuralos.windows import collate

MakeBatch = Callable[..., NumpyBatch]


def test_what_lies_before_a_start_changes_nothing(
    make_batch: MakeBatch, config: ModelConfig, model: NeuralOS
) -> None:
    batch = collate(make_batch(), config)
    states, _ = model.tracker(batch["previous"], batch["actions"], batch["starts"])
    batch["previous"][0, :6] += 7
    batch["actions"][0, :6] += 1
    again, _ = model.tracker(batch["previous"], batch["actions"], batch["starts"])
    assert torch.equal(states[0, 6:], again[0, 6:])


def test_a_carried_state_continues_where_a_longer_window_would_be(
    make_batch: MakeBatch, config: ModelConfig, model: NeuralOS
) -> None:
    batch = collate(make_batch(), config)
    inputs = batch["previous"], batch["actions"], batch["starts"]
    whole, _ = model.tracker(*inputs)
    _, state = model.tracker(*(part[:, :9] for part in inputs))
    rest, _ = model.tracker.run(state, *(part[:, 9:] for part in inputs))
    assert torch.allclose(whole[:, 9:], rest, atol=1e-6)


def test_padding_and_unknown_are_different_learned_starts(model: NeuralOS) -> None:
    with torch.no_grad():
        model.tracker.start_states[1] += 1
    padding = model.tracker.start(2, is_padding=True)
    unknown = model.tracker.start(2, is_padding=False)
    assert all((p == u + 1).all() for p, u in zip(padding, unknown, strict=True))


def test_no_held_key_adds_nothing_and_each_key_its_own(model: NeuralOS) -> None:
    actions = torch.zeros(1, 3, ACTION_WIDTH, dtype=torch.int16)
    actions[0, 1, FIRST_KEY + 42] = 1
    embedded = model.tracker.embed(actions)[0, :, -model.sizes.hidden :]
    table = model.tracker.key_table.weight
    assert torch.equal(embedded[0], embedded[2])
    assert torch.allclose(embedded[1] - embedded[0], table[85] - table[84], atol=1e-6)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (511, 383), (200, 131)])
def test_the_pointers_gaussian_is_centred_between_cells(
    x: int, y: int, config: ModelConfig
) -> None:
    actions = torch.zeros(1, ACTION_WIDTH, dtype=torch.int16)
    actions[0, X], actions[0, Y] = x, y
    drawn = cursor_map(actions, config)
    assert drawn.shape == (1, 1, 12, 16)
    row, column = round(y / 32), min(round(x / 32), 15)
    distance = (column - x / 32) ** 2 + (min(row, 11) - y / 32) ** 2
    assert math.isclose(drawn.max(), math.exp(-distance / 2), rel_tol=1e-5)


def test_folded_attention_equals_keys_and_values_written_out(config: ModelConfig) -> None:
    torch.manual_seed(0)
    attention = FrameAttention(config)
    hidden, frame = torch.randn(3, config.hidden), torch.randn(3, 16, 12 * 16)
    tokens = attention.token(frame.transpose(1, 2)) + attention.position
    heads = (config.num_heads, -1)
    query = attention.query(hidden).unflatten(1, heads)[:, :, None]
    keys = attention.key(tokens).unflatten(2, heads).transpose(1, 2)
    values = attention.value(tokens).unflatten(2, heads).transpose(1, 2)
    written = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
    expected = attention.out(written.flatten(1))
    assert torch.allclose(attention(hidden, frame, attention.fold()), expected, atol=1e-5)
