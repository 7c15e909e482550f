"""What being steered costs several ranks: `torchrun --nproc-per-node 2 -m benchmarks.ranks`.

A plain transformers.Trainer under DDP and the same one made interactive, in blocks that alternate
and nobody asking for anything; a ratio is one of two blocks' medians, side by side.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.trainer_parts import Layers, train

STEP_WIDTH, STEP_LAYERS = 384, 8  # about 20 ms a step on two ranks with a core each here
BLOCK_STEPS, NUM_BLOCKS = 200, 6
SETTLE_STEPS = 30  # of a block, left out


def main() -> None:
    """Print the figures as JSON, on rank 0."""
    torch.set_num_threads(1)
    # The same folder on every rank, and nobody else's: two jobs never have one port.
    data = Path(tempfile.gettempdir()) / f"stovetop-ranks-{os.environ['MASTER_PORT']}"
    medians: dict[str, list[float]] = {"plain": [], "steered": []}
    for block in range(NUM_BLOCKS):
        for kind in medians if block % 2 else reversed(medians):
            folder = data if kind == "steered" else None
            steps = train(Layers(STEP_WIDTH, STEP_LAYERS), BLOCK_STEPS, folder, f"ranks-{block}")
            medians[kind].append(statistics.median(steps.gaps[SETTLE_STEPS:]))
    if dist.get_rank() == 0:
        pairs = zip(medians["steered"], medians["plain"], strict=True)
        ratios = [steered / plain for steered, plain in pairs]
        figures = {
            "ranks": dist.get_world_size(),
            "step_ms": {
                kind: round(statistics.median(values) * 1e3, 3) for kind, values in medians.items()
            },
            "ratio_to_plain": {
                "median": round(statistics.median(ratios), 4),
                "least": round(min(ratios), 4),
                "most": round(max(ratios), 4),
            },
        }
        sys.stdout.write(json.dumps(figures) + "\n")
        shutil.rmtree(data)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
