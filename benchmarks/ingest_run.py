"""A run whose steps cost no processor, as where a GPU takes them: `benchmarks/ingest.py` steers it.

`STOVETOP_DATA=... python -m benchmarks.ingest_run NAME` trains until it is told to end.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from trainer.interactive import make_interactive

STEP_S = 0.05


class Slow(Dataset[dict[str, Tensor]]):
    """Vectors that take their time."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        time.sleep(STEP_S)
        return {"x": torch.full((4,), float(index))}


class Tiny(torch.nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """How far from 0."""
        return {"loss": self.layer(x / 1e6).square().mean()}


def main() -> None:
    """Train."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=str(Path(folder) / "out"),
            run_name=sys.argv[1],
            max_steps=1_000_000,
            per_device_train_batch_size=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        make_interactive(Trainer)(model=Tiny(), args=args, train_dataset=Slow()).train()


if __name__ == "__main__":
    main()
