"""The change of the weights by one step, measured where it happens."""

import pytest
import torch
from torch import nn

from trainer.loop.update_ratio import MAX_TENSORS, MAX_WEIGHTS, UpdateRatio


def weights(*shapes: tuple[int, ...], value: float = 2.0) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.full(shape, value)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return parameters


def measured(parameters: list[nn.Parameter], lr: float, step: int = 1) -> float | None:
    optimizer = torch.optim.SGD(parameters, lr=lr)
    ratio = UpdateRatio()
    ratio.watch(optimizer)
    ratio.begin(step)
    optimizer.step()
    return ratio.value


@pytest.mark.parametrize("shapes", [[(3, 3)], [(500, 500), (7, 3)], [(4, 4)] * 100, [(5,)]])
def test_it_is_the_length_of_the_step_over_that_of_the_weights(
    shapes: list[tuple[int, ...]],
) -> None:
    assert measured(weights(*shapes), lr=0.1) == pytest.approx(0.05)


def test_biases_that_begin_at_zero_do_not_count_beside_matrices() -> None:
    assert measured([*weights((3, 3)), *weights((3,), value=0.0)], lr=0.1) == pytest.approx(0.05)


def test_frozen_weights_do_not_count() -> None:
    frozen = nn.Parameter(torch.full((9, 9), 100.0), requires_grad=False)
    assert measured([*weights((3, 3)), frozen], lr=0.1) == pytest.approx(0.05)


@pytest.mark.parametrize(("step", "is_measured"), [(1, True), (2, False), (20, False), (21, True)])
def test_every_twentieth_step_is_measured(step: int, is_measured: bool) -> None:
    assert (measured(weights((3, 3)), lr=0.1, step=step) is not None) == is_measured


def test_a_large_model_is_sampled_and_nothing_is_drawn_at_random() -> None:
    before = torch.get_rng_state()
    parameters = weights(*[(300, 301)] * 50)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    ratio = UpdateRatio()
    sizes: list[int] = []
    ratio.watch(optimizer)
    optimizer.register_step_pre_hook(
        lambda *_: sizes.extend(noted.numel() for noted in ratio._weights)
    )
    ratio.begin(1)
    optimizer.step()
    assert 0 < len(sizes) <= MAX_TENSORS
    assert max(sizes) <= MAX_WEIGHTS
    assert torch.equal(torch.get_rng_state(), before)
