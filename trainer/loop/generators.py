"""The process's random generators, kept as they are around what must leave no trace on them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Afterwards torch's, numpy's and Python's generators are as they were before."""
    numpys, pythons = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)


def seed_generators(seed: int) -> None:
    """Seed all three."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
