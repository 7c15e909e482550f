"""Sampling: any bounded number of steps, the same frames from the same seed."""

import pytest
import torch

from trainer.neuralos.model import NeuralOS


def _sample(model: NeuralOS, num_steps: int) -> torch.Tensor:
    maps = torch.ones(2, model.sizes.map_channels, 12, 16)
    generator = torch.Generator().manual_seed(3)
    return model.renderer.sample(maps, num_steps=num_steps, generator=generator)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 9, 27, 36, 64])
def test_any_bounded_number_of_steps_gives_a_finite_frame(num_steps: int, model: NeuralOS) -> None:
    latents = _sample(model, num_steps)
    assert latents.shape == (2, 16, 12, 16)
    assert latents.isfinite().all()


@pytest.mark.parametrize("num_steps", [0, 65, 1000])
def test_an_unbounded_request_is_refused(num_steps: int, model: NeuralOS) -> None:
    with pytest.raises(ValueError, match="num_steps"):
        _sample(model, num_steps)


def test_one_step_is_the_plain_prediction_from_pure_noise(model: NeuralOS) -> None:
    maps = torch.ones(1, model.sizes.map_channels, 12, 16)
    noise = torch.randn(1, 16, 12, 16, generator=torch.Generator().manual_seed(3))
    expected = model.renderer(noise, maps, torch.tensor([999]))
    sampled = model.renderer.sample(maps, num_steps=1, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(sampled, expected, atol=1e-5)
