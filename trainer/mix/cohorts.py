"""What an adoption brings to one slice: the cohort that joins it, the samples that leave it.

Changes of one slice enter in the order they were adopted; `fold` makes one of them, equal in
effect, so that a resume costs one change a slice however many adoptions there were. Numbers travel
packed: delta, zigzag, byte planes, zlib: 3.3 bytes a number for a drawn batch, 0.04 for a run of
neighbours.
"""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.mix.permutation import IntArray

BoolArray = NDArray[np.bool_]
_ZLIB_LEVEL = 1  # 25 us a batch of 64; level 6 saves 2 % and costs 3 times that


def _no_numbers() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class SliceChange:
    """Samples that join a slice, with owner, lane and adoption, and numbers that leave it.

    `added`, `owners`, `is_change` and `adopted` are parallel; `added` is sorted, without repeats
    and apart from `removed`. `adopted` is the number of the adoption that each came with.
    """

    added: IntArray = field(default_factory=_no_numbers)
    owners: IntArray = field(default_factory=_no_numbers)
    is_change: BoolArray = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    adopted: IntArray = field(default_factory=_no_numbers)
    removed: IntArray = field(default_factory=_no_numbers)

    def __len__(self) -> int:
        return self.added.size + self.removed.size

    def where(self, chosen: BoolArray) -> Self:
        """The same change with only the chosen ones of the added."""
        return type(self)(
            self.added[chosen],
            self.owners[chosen],
            self.is_change[chosen],
            self.adopted[chosen],
            self.removed,
        )


def fold(changes: Sequence[SliceChange]) -> SliceChange:
    """One change with the effect of all of them in order: the members they leave, none removed."""
    if not changes:
        return SliceChange()
    numbers = np.concatenate([part for c in changes for part in (c.removed, c.added)])
    joins = np.concatenate(
        [np.full(part.size, part is c.added) for c in changes for part in (c.removed, c.added)]
    )
    source = np.full(numbers.size, -1)
    source[joins] = np.arange(np.count_nonzero(joins))
    # Stable: of one number's joinings and leavings, the last one decides.
    order = np.argsort(numbers, kind="stable")
    is_last = np.append(numbers[order][1:] != numbers[order][:-1], True)[: numbers.size]
    kept = source[order[is_last]]
    kept = kept[kept >= 0]
    return SliceChange(
        *(
            np.concatenate([getattr(change, name) for change in changes])[kept]
            for name in ("added", "owners", "is_change", "adopted")
        )
    )


def pack_numbers(numbers: IntArray) -> bytes:
    """Any int64 numbers in any order, as bytes that `unpack_numbers` turns back."""
    deltas: IntArray = np.diff(numbers, prepend=np.int64(0))
    zigzag = ((deltas << 1) ^ (deltas >> 63)).astype("<u8")
    planes = np.ascontiguousarray(zigzag.view(np.uint8).reshape(-1, 8).T)
    return zlib.compress(planes.tobytes(), _ZLIB_LEVEL)


def unpack_numbers(packed: bytes) -> IntArray:
    """The int64 numbers that were packed, in their order."""
    planes = np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(8, -1)
    zigzag = np.ascontiguousarray(planes.T).view("<u8").reshape(-1)
    deltas = (zigzag >> np.uint64(1)).astype(np.int64) ^ -(zigzag & np.uint64(1)).astype(np.int64)
    return np.cumsum(deltas, dtype=np.int64)


def pack_flags(flags: BoolArray) -> str:
    """Flags as text for JSON, a bit each before compression."""
    return base64.b64encode(zlib.compress(np.packbits(flags).tobytes())).decode("ascii")


def unpack_flags(packed: str, size: int) -> BoolArray:
    """The flags that were packed; their count is not in the text."""
    data = np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=np.uint8)
    return np.unpackbits(data, count=size).astype(np.bool_)
