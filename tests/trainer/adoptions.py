"""Changes of slices for tests, with only what a test cares about spelled out."""

from collections.abc import Iterable

import numpy as np

from trainer.mix.cohorts import SliceChange


def slice_change(
    added: Iterable[int] = (),
    *,
    number: int = 1,
    owners: Iterable[int] | None = None,
    changing: Iterable[int] = (),
    removed: Iterable[int] = (),
) -> SliceChange:
    """Samples that join with adoption `number`, each its own owner and plain unless said."""
    numbers = np.fromiter(added, dtype=np.int64)
    return SliceChange(
        added=numbers,
        owners=numbers if owners is None else np.fromiter(owners, dtype=np.int64),
        is_change=np.isin(numbers, np.fromiter(changing, dtype=np.int64)),
        adopted=np.full(numbers.size, number),
        removed=np.fromiter(removed, dtype=np.int64),
    )
