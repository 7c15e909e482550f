"""The patch of cells that moves with the pointer."""

import pytest
import torch

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.head import PointerPatch
from trainer.neuralos.records import ACTION_WIDTH, X, Y


def _at(x: int, y: int) -> torch.Tensor:
    actions = torch.zeros(1, ACTION_WIDTH, dtype=torch.int16)
    actions[0, X], actions[0, Y] = x, y
    return actions


def test_the_patch_moves_with_the_pointer_cell_by_cell(config: ModelConfig) -> None:
    patch = PointerPatch(config)
    states = torch.randn(1, 2 * config.hidden)
    here = patch(states, _at(200, 170))
    below_and_right = patch(states, _at(200 + 32, 170 + 64))
    assert torch.equal(here[..., :-2, :-1], below_and_right[..., 2:, 1:])


def test_the_stamp_tells_places_one_pixel_apart(config: ModelConfig) -> None:
    patch = PointerPatch(config)
    states = torch.zeros(1, 2 * config.hidden)
    assert torch.equal(patch(states, _at(200, 170)), patch(states, _at(203, 171)))
    assert not torch.equal(patch(states, _at(200, 170)), patch(states, _at(204, 170)))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (511, 0), (0, 383), (511, 383)])
def test_at_the_screens_corners_the_patch_is_cut(x: int, y: int, config: ModelConfig) -> None:
    written = PointerPatch(config)(torch.randn(1, 2 * config.hidden), _at(x, y))
    assert written.shape[2:] == (12, 16)
    assert written[0, :, y // 32, x // 32].ne(0).all()
    assert written[0, :, 5, 8].eq(0).all()
