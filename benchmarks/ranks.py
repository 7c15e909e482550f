"""What being steered costs several ranks: `torchrun --nproc-per-node 2 -m benchmarks.ranks`.

A plain transformers.Trainer under DDP and the same one made interactive, in blocks that alternate
and nobody asking for anything; a ratio is one of two blocks, side by side: of the medians of their
steps by the wall clock, and of the CPU time that all threads of all ranks took meanwhile.
The first says what somebody waits for, and is true on a machine that nobody else uses.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from benchmarks.trainer_parts import Layers, train

STEP_WIDTH, STEP_LAYERS = 512, 10  # about 40 ms a step on two ranks with a core each here
BLOCK_STEPS, NUM_BLOCKS = 100, 12
SETTLE_STEPS = 20  # of a block, left out


@dataclass(frozen=True)
class Block:
    """What a step of a block took, in ms: the median by the wall clock; CPU time of all ranks."""

    wall_ms: float
    cpu_ms: float


def train_block(folder: Path | None, run: str) -> Block:
    """Train a new model, plain or registered with an installation's folder."""
    cpu: list[float] = []

    def look(_optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        cpu.append(time.process_time())

    hook = register_optimizer_step_pre_hook(look)
    steps = train(Layers(STEP_WIDTH, STEP_LAYERS), BLOCK_STEPS, folder, run)
    hook.remove()
    used = torch.tensor(cpu[-1] - cpu[SETTLE_STEPS]) / (BLOCK_STEPS - 1 - SETTLE_STEPS)
    dist.all_reduce(used)
    return Block(statistics.median(steps.gaps[SETTLE_STEPS:]) * 1e3, float(used) * 1e3)


def compared(plain: list[float], steered: list[float]) -> dict[str, float]:
    """Medians of both, and the ratios of their pairs."""
    ratios = [ours / theirs for ours, theirs in zip(steered, plain, strict=True)]
    return {
        "plain_ms": round(statistics.median(plain), 3),
        "steered_ms": round(statistics.median(steered), 3),
        "ratio": round(statistics.median(ratios), 4),
        "least": round(min(ratios), 4),
        "most": round(max(ratios), 4),
    }


def main() -> None:
    """Print the figures as JSON, on rank 0."""
    torch.set_num_threads(1)
    # The same folder on every rank, and nobody else's: two jobs never have one port.
    data = Path(tempfile.gettempdir()) / f"stovetop-ranks-{os.environ['MASTER_PORT']}"
    blocks: dict[str, list[Block]] = {"plain": [], "steered": []}
    for number in range(NUM_BLOCKS):
        for kind in blocks if number % 2 else reversed(blocks):
            folder = data if kind == "steered" else None
            blocks[kind].append(train_block(folder, f"ranks-{number}"))
    if dist.get_rank() == 0:
        plain, steered = blocks["plain"], blocks["steered"]
        figures = {
            "ranks": dist.get_world_size(),
            "num_pairs": NUM_BLOCKS,
            "wall": compared([b.wall_ms for b in plain], [b.wall_ms for b in steered]),
            "cpu": compared([b.cpu_ms for b in plain], [b.cpu_ms for b in steered]),
        }
        sys.stdout.write(json.dumps(figures) + "\n")
        shutil.rmtree(data)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
