"""Keyed random order: a place in (0, 1] for every sample number, computed instead of stored.

A key and sample numbers enter, one place per number leaves; sorting by place is a permutation that
any machine recomputes from the key alone. The mixer is SplitMix64's (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014, section 4.2): 5 ms for a million numbers,
where keeping each pass's permutation would cost a checkpoint 4 MB a million.
"""

import numpy as np
from numpy.typing import NDArray

from ingest.ids import content_id

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_PLACES = 2.0**-53


def permutation_key(*parts: str | int) -> int:
    """The 64-bit key of one permutation, from what names it (seed, slice, pass ...)."""
    return int(content_id(*(str(part) for part in parts))[:16], 16)


def places(key: int, numbers: IntArray) -> FloatArray:
    """Uniform places in (0, 1], float64 like `numbers`, fixed by the key and each number."""
    state = numbers.astype(np.uint64)
    state *= _GOLDEN_GAMMA
    state += np.uint64(key)
    state ^= state >> np.uint64(30)
    state *= _MULTIPLIERS[0]
    state ^= state >> np.uint64(27)
    state *= _MULTIPLIERS[1]
    state ^= state >> np.uint64(31)
    return ((state >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * _PLACES


def order_by(keys: FloatArray, numbers: IntArray) -> IntArray:
    """Indices that sort by key; equal keys by sample number, so that the order is one only."""
    order = np.argsort(keys)
    if has_ties(keys[order]):
        order = np.lexsort((numbers, keys))
    return order.astype(np.int64, copy=False)


def has_ties(ordered: FloatArray) -> bool:
    """Whether any two neighbours are equal."""
    return bool((ordered[1:] == ordered[:-1]).any())
