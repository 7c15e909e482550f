"""The head: what stays, what moves with the pointer, what the state writes beside it."""

import pytest
import torch
from torch import Tensor

from trainer.neuralos.config import ModelConfig
from trainer.neuralos.head import NO_POINTER, Head, Moment, actions_before
from trainer.neuralos.records import ACTION_WIDTH, X, Y
from trainer.neuralos.windows import CONTINUES, STARTS_PADDING, STARTS_UNKNOWN


def at(x: int, y: int) -> Tensor:
    actions = torch.zeros(1, ACTION_WIDTH, dtype=torch.int16)
    actions[0, X], actions[0, Y] = x, y
    return actions


@pytest.fixture
def head(config: ModelConfig) -> Head:
    """A head with stamps, and nothing that the state decides."""
    torch.manual_seed(0)
    head = Head(config)
    torch.nn.init.normal_(head.stamps.weight)
    return head


def shown(head: Head, actions: Tensor, before: Tensor, previous: Tensor) -> Tensor:
    """The direct prediction, (C, h, w)."""
    states = torch.zeros(1, 3 * head.config.hidden)
    moment = Moment(states, previous, actions, before)
    return head(moment)[0, : head.config.latent_channels]


def test_an_untrained_head_keeps_the_frame_before(head: Head, config: ModelConfig) -> None:
    previous = torch.randn(1, *config.latent_shape)
    here = at(200, 170)
    assert torch.allclose(shown(head, here, here, previous), previous[0], atol=1e-5)


def test_the_pointer_leaves_its_old_place_and_comes_to_the_new_one(
    head: Head, config: ModelConfig
) -> None:
    empty = torch.zeros(1, *config.latent_shape)
    nowhere = at(NO_POINTER, 0)
    first = shown(head, at(64, 64), nowhere, empty)
    second = shown(head, at(300, 250), at(64, 64), first[None])
    assert torch.allclose(second, shown(head, at(300, 250), nowhere, empty), atol=1e-5)


def test_the_stamp_moves_with_the_pointer_cell_by_cell(head: Head, config: ModelConfig) -> None:
    empty, nowhere = torch.zeros(1, *config.latent_shape), at(NO_POINTER, 0)
    here = shown(head, at(200, 170), nowhere, empty)
    below_and_right = shown(head, at(200 + 32, 170 + 64), nowhere, empty)
    assert torch.equal(here[:, :-2, :-1], below_and_right[:, 2:, 1:])


def test_the_stamp_tells_places_one_pixel_apart(head: Head, config: ModelConfig) -> None:
    empty, nowhere = torch.zeros(1, *config.latent_shape), at(NO_POINTER, 0)
    here = shown(head, at(200, 170), nowhere, empty)
    assert torch.equal(here, shown(head, at(203, 171), nowhere, empty))
    assert not torch.equal(here, shown(head, at(204, 170), nowhere, empty))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (511, 0), (0, 383), (511, 383)])
def test_at_the_screens_corners_the_stamp_is_cut(
    x: int, y: int, head: Head, config: ModelConfig
) -> None:
    stamp = shown(head, at(x, y), at(NO_POINTER, 0), torch.zeros(1, *config.latent_shape))
    assert stamp.shape == config.latent_shape
    assert stamp[:, y // 32, x // 32].ne(0).all()
    assert stamp[:, 5, 8].eq(0).all()


def test_before_an_episodes_first_frame_there_was_no_pointer() -> None:
    actions = torch.cat([at(10, 0), at(20, 0), at(30, 0), at(40, 0)])[None]
    starts = torch.tensor([[STARTS_UNKNOWN, CONTINUES, STARTS_PADDING, CONTINUES]])
    assert actions_before(actions, starts)[0, :, X].tolist() == [NO_POINTER, 10, NO_POINTER, 30]


def written_over(head: Head, block: Tensor, *, row: int, column: int) -> Tensor:
    """What the head decides where the pointer's cell and its neighbours show `block`."""
    previous = torch.zeros(1, *head.config.latent_shape)
    previous[0, :, row - 1 : row + 2, column - 1 : column + 2] = block
    here = at(32 * column + 9, 32 * row + 21)
    return shown(head, here, here, previous) - previous[0]


def test_what_lies_under_the_pointer_decides_wherever_it_is(
    head: Head, config: ModelConfig
) -> None:
    torch.nn.init.normal_(head.written.weight)
    one, other = torch.randn(2, config.latent_channels, 3, 3)
    here = written_over(head, one, row=4, column=5)
    there = written_over(head, one, row=6, column=6)
    assert torch.allclose(here[:, :-2, :-1], there[:, 2:, 1:], atol=1e-5)
    assert not torch.allclose(here, written_over(head, other, row=4, column=5), atol=0.1)
