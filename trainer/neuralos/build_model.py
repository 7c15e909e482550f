"""The base model's training: tracks of simulated use in, weights out.

One function for both stages of `NeuralOS`; AdamW, a short warm-up, then a cosine to a twentieth.
A run that people steer is another thing (`trainer.loop.interactive`); this one only has to be the
same every time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import structlog
import torch

from trainer.neuralos.build_bank import Bank
from trainer.neuralos.model import NeuralOS, Stage
from trainer.neuralos.recipe import RECIPE
from trainer.neuralos.windows import collate

log = structlog.get_logger()

_WARM_UP_STEPS = 20
_LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class ModelTraining:
    """One stage: how many steps at which learning rates, by parameter group."""

    stage: Stage
    num_steps: int
    learning_rates: dict[str, float] = field(
        default_factory=lambda: {"tracker": 1e-3, "renderer": 2e-3}
    )
    batch_size: int = RECIPE.batch_size
    seed: int = 2


def train_model(model: NeuralOS, bank: Bank, training: ModelTraining) -> None:
    """Train `model` in place; the same seed gives the same weights."""
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    model.train()
    model.stage = training.stage
    optimizer = _optimizer(model, training)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(training.num_steps))
    total = 0.0
    for step in range(1, training.num_steps + 1):
        batch = collate(bank.draw(rng, training.batch_size), model.sizes)
        loss = model(**batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.max_grad_norm)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % _LOG_EVERY == 0:
            mean = round(total / _LOG_EVERY, 5)
            log.info("model_trained", stage=training.stage, step=step, loss=mean)
            total = 0.0


def _optimizer(model: NeuralOS, training: ModelTraining) -> torch.optim.AdamW:
    groups = [
        {"params": list(parameters), "lr": training.learning_rates[name]}
        for name, parameters in model.parameter_groups().items()
    ]
    return torch.optim.AdamW(groups, betas=RECIPE.betas, weight_decay=RECIPE.weight_decay)


def _warm_cosine(num_steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        warm = min((step + 1) / _WARM_UP_STEPS, 1.0)
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / num_steps)))

    return factor
