"""Somebody's own script: a plain Trainer made interactive, on a dataset of their own.

Run as a program it trains in a folder: `python tests/trainer/own.py FOLDER MAX_STEPS [resume]`, so
that a test may kill it: with loader workers, and steps that go on from one epoch into the next.
"""

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from trainer.interactive import OwnTrainer, make_interactive

NUM_SAMPLES, WIDTH = 50, 8


class Waves(Dataset[dict[str, Tensor]]):
    """A sample a number; with noise of its own, as an augmentation has."""

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        noise = random.random() + torch.rand(1).item()
        x = torch.sin(index * torch.arange(1.0, WIDTH + 1)) + 0.01 * noise
        return {"x": x, "index": torch.tensor(index)}


class Net(nn.Module):
    """Dropout, so that the generators matter; each forward pass in training is written down."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(WIDTH, 16), nn.Dropout(0.3), nn.Linear(16, WIDTH))
        self.indices: list[list[int]] = []
        self.losses: list[float] = []

    def forward(self, x: Tensor, index: Tensor) -> dict[str, Tensor]:
        loss = (self.layers(x) - x).square().mean()
        if self.training:
            self.indices.append(index.tolist())
            self.losses.append(loss.item())
        return {"loss": loss}


@dataclass
class Script:
    """What happens during the n-th optimizer step, and the rates that the optimizer saw."""

    during: Callable[[int], None] = lambda _count: None
    rates: list[float] = field(default_factory=list)

    def step(self, optimizer: torch.optim.Optimizer, _args: object, _kwargs: object) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.during(len(self.rates))


class Authors(transformers.Trainer):
    """Somebody's own, with a loss of its own."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], *_args: object, **_kwargs: object
    ) -> Tensor:
        loss: Tensor = model(**inputs)["loss"]
        return 2.0 * loss


def own_trainer(
    folder: Path, base: type[transformers.Trainer] = Authors, **arguments: object
) -> OwnTrainer:
    """Their Trainer, as the README says."""
    usual: Mapping[str, object] = {
        "max_steps": 10,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 4,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "save_steps": 2,
        "logging_strategy": "no",
        "remove_unused_columns": False,
    }
    args = TrainingArguments(output_dir=str(folder), **{**usual, **arguments})
    trainer = make_interactive(base)(
        model=Net(), args=args, train_dataset=Waves(), eval_dataset=Waves()
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def main() -> None:
    """Train, and say what was drawn, a line a forward pass."""
    folder, max_steps, *resume = sys.argv[1:]
    trainer = own_trainer(
        Path(folder),
        max_steps=int(max_steps),
        lr_scheduler_type="linear",
        warmup_steps=5,
        gradient_accumulation_steps=3,
        dataloader_num_workers=2,
    )
    model = trainer.model
    assert isinstance(model, Net)

    def say(*_: object) -> None:
        sys.stdout.write(f"{model.indices[-1]} {model.losses[-1]}\n")
        sys.stdout.flush()

    model.register_forward_hook(say)
    trainer.train(resume_from_checkpoint=bool(resume))


if __name__ == "__main__":
    main()
