"""The fixed-size record of a latent shard: one sample's latent with the action that led to it.

In: a latent, float32 (C, h, w), and an action vector, int16 (184,). Out: two members of a plain
tar, `{key}.latent.npy` and `{key}.action.npy`. Headers and padding have a fixed size, so every
record of a shard takes the same bytes (14,336 for latents of (16, 12, 16)), an episode's records
lie one after the other, and a context window is one contiguous read that `unpack` views in place:
no tar, no npy parsing, no copy.
"""

import io
from collections.abc import Collection
from functools import cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingest.shards import BLOCK, CorruptShardError
from trainer.neuralos.config import NUM_KEYS

X, Y, LEFT, RIGHT, IS_CHANGE = range(5)
FIRST_KEY = 5
ACTION_WIDTH = FIRST_KEY + NUM_KEYS
LATENT_SHAPE = (16, 12, 16)


def action_vector(
    *,
    x: int,
    y: int,
    is_left_click: bool,
    is_right_click: bool,
    is_change: bool,
    held: Collection[int],
) -> NDArray[np.int16]:
    """An action as the model takes it: int16 (184,).

    x and y are logical pixels (512x384); `held` are the indices of the keys down after the tick
    (neuralos.md 2.3); `is_change` says that the screen's structure changed in this very tick.
    """
    vector = np.zeros(ACTION_WIDTH, np.int16)
    vector[[X, Y, LEFT, RIGHT, IS_CHANGE]] = x, y, is_left_click, is_right_click, is_change
    vector[[FIRST_KEY + index for index in held]] = 1
    return vector


def pack(
    key: str, latent: NDArray[np.float32], action: NDArray[np.int16]
) -> list[tuple[str, bytes]]:
    """The members of one record, in the order in which `unpack` wants them."""
    return [(f"{key}.latent.npy", _npy(latent, "<f4")), (f"{key}.action.npy", _npy(action, "<i2"))]


def record_bytes(latent_shape: tuple[int, ...] = LATENT_SHAPE) -> int:
    """Bytes that one record takes in its shard."""
    return record_type(latent_shape).itemsize


def unpack(
    buffer: bytes | memoryview, latent_shape: tuple[int, ...] = LATENT_SHAPE
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """View N contiguous records as latents (N, C, h, w) and actions (N, 184), without a copy.

    Raises CorruptShardError when the bytes are not whole records of this shape.
    """
    record = record_type(latent_shape)
    if len(buffer) % record.itemsize:
        raise CorruptShardError(
            f"{len(buffer)} bytes are no whole records of {record.itemsize} bytes"
        )
    records = np.frombuffer(buffer, record)
    if not (records["latent_header"] == _latent_header(latent_shape)).all():
        raise CorruptShardError(f"the bytes hold no records of latents {latent_shape}")
    return records["latent"], records["action"]


@cache
def record_type(latent_shape: tuple[int, ...]) -> np.dtype[np.void]:
    """One record as a structured type whose fields (latent, action) lie where their data do.

    A byte buffer of whole records viewed as this type is its arrays, in place and unchecked.
    """
    latent, action = np.dtype(("<f4", latent_shape)), np.dtype(("<i2", (ACTION_WIDTH,)))
    latent_header = _header_bytes(latent)
    action_start = 2 * BLOCK + _padded(latent_header + latent.itemsize)
    action_header = _header_bytes(action)
    return np.dtype(
        {
            "names": ["latent_header", "latent", "action"],
            "formats": [("u1", (latent_header,)), latent, action],
            "offsets": [BLOCK, BLOCK + latent_header, action_start + action_header],
            "itemsize": action_start + _padded(action_header + action.itemsize),
        }
    )


@cache
def _latent_header(latent_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    num_bytes = _header_bytes(np.dtype(("<f4", latent_shape)))
    return np.frombuffer(_npy(np.zeros(latent_shape), "<f4"), np.uint8, num_bytes)


def _header_bytes(part: np.dtype[np.void]) -> int:
    assert part.subdtype is not None
    return len(_npy(np.zeros(part.shape), part.subdtype[0])) - part.itemsize


def _padded(num_bytes: int) -> int:
    return num_bytes + -num_bytes % BLOCK


def _npy(array: NDArray[np.generic], kind: DTypeLike) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array, kind), version=(1, 0))
    return file.getvalue()
