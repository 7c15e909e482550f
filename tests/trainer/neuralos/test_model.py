"""NeuralOS as a module: a loss the Trainer can use, the same bits every time."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.trainer.neuralos.conftest import NumpyBatch
from trainer.neuralos.config import ModelConfig
from trainer.neuralos.model import NeuralOS, Stage
from trainer.neuralos.windows import collate

MakeBatch = Callable[..., NumpyBatch]


def _trained_steps(config: ModelConfig, raw: NumpyBatch, num_steps: int) -> list[float]:
    torch.manual_seed(1)
    model = NeuralOS(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(num_steps):
        loss = model(**collate(raw, config))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_same_seed_gives_the_same_losses_bit_for_bit(
    make_batch: MakeBatch, config: ModelConfig
) -> None:
    raw = make_batch()
    assert _trained_steps(config, raw, 4) == _trained_steps(config, raw, 4)


def test_the_loss_falls_on_a_batch_seen_again(make_batch: MakeBatch, config: ModelConfig) -> None:
    raw = make_batch()
    losses = _trained_steps(config, raw, 60)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(("stage", "renderer_learns"), [("tracker", False), ("joint", True)])
def test_a_stage_trains_its_own_parts(
    stage: Stage, renderer_learns: bool, make_batch: MakeBatch, config: ModelConfig
) -> None:
    model = NeuralOS(config, stage=stage)
    model(**collate(make_batch(), config))["loss"].backward()
    groups = {
        name: any(parameter.grad is not None for parameter in parameters)
        for name, parameters in model.parameter_groups().items()
    }
    assert groups == {"tracker": True, "renderer": renderer_learns}


def test_the_groups_hold_every_parameter_once(model: NeuralOS) -> None:
    grouped = [id(p) for group in model.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_frames_without_weight_do_not_count(make_batch: MakeBatch, config: ModelConfig) -> None:
    model = NeuralOS(config, stage="tracker").eval()
    batch = collate(make_batch(), config)
    batch["weights"][:, 1:] = 0
    expected = model(**batch)["loss"]
    batch["targets"][:, 1:] += 100
    assert torch.equal(model(**batch)["loss"], expected)


def test_a_saved_model_comes_back_as_rounded_to_float16(model: NeuralOS, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = NeuralOS.load(tmp_path)
    assert loaded.sizes == model.sizes
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
