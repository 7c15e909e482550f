"""Turns one frame shard into one latent shard of the same samples in the same order.

In: a frame shard, read with the stock webdataset library, and an encoder. Out: a published shard of
records (`records.py`) and where in it each sample lies. Guaranteed: frames go through the encoder
16 at a time, the last batch padded, so a frame's latent is the same bits whatever came with it.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from webdataset.tariterators import group_by_keys, tar_file_expander

from ingest.keyboard import INDEX_OF
from ingest.shard_store import ShardStore
from ingest.shards import CorruptShardError, ShardWriter, Span, WrittenShard
from trainer.neuralos.encoder import Encoder
from trainer.neuralos.records import action_vector, pack

BATCH_SIZE = 16


class UnsuitableShardError(Exception):
    """A frame shard is sound but nothing that this encoder takes; the message says why."""


@dataclass(frozen=True)
class Frame:
    """One sample of a frame shard: pixels uint8 (H, W, 3), action int16 (184,)."""

    key: str
    pixels: NDArray[np.uint8]
    action: NDArray[np.int16]


def read_frames(path: Path) -> Iterator[Frame]:
    """Read a frame shard's samples in order.

    Raises CorruptShardError for a sample that is not what the replay worker writes.
    """
    with path.open("rb") as file:
        # WebDataset itself would open the path, and leave closing it to the garbage collector.
        for sample in group_by_keys(tar_file_expander([{"url": str(path), "stream": file}])):
            try:
                yield _frame(sample["__key__"], sample["png"], sample["json"])
            except (KeyError, ValueError, UnidentifiedImageError) as error:
                raise CorruptShardError(f"{path}: {sample['__key__']}: {error!r}") from error


def write_latents(
    frames: Iterable[Frame], encoder: Encoder, store: ShardStore, folder: str
) -> tuple[WrittenShard, dict[str, Span]]:
    """Encode frames into a shard published in `folder`; returns it and each sample's span by key.

    Raises UnsuitableShardError when a frame's size is not the encoder's.
    """
    spans: dict[str, Span] = {}
    with ShardWriter(store, folder) as writer:
        for batch in _batches(frames):
            for frame, latent in zip(batch, _encode(batch, encoder), strict=True):
                spans[frame.key] = writer.add(pack(frame.key, latent, frame.action))
        return writer.publish(), spans


def _frame(key: str, png: bytes, described: bytes) -> Frame:
    fields = orjson.loads(described)
    action = fields["action"]
    vector = action_vector(
        x=int(action["x"]),
        y=int(action["y"]),
        is_left_click=action["left"],
        is_right_click=action["right"],
        is_change=fields["ticks_since_change"] == 0,
        held=[INDEX_OF[name] for name in fields["held"]],
    )
    return Frame(key, np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), vector)


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def _encode(batch: list[Frame], encoder: Encoder) -> NDArray[np.float32]:
    wanted = (encoder.config.height, encoder.config.width, 3)
    for frame in batch:
        if frame.pixels.shape != wanted:
            raise UnsuitableShardError(
                f"{frame.key} is {frame.pixels.shape}, the encoder takes {wanted}"
            )
    pixels = np.zeros((BATCH_SIZE, *wanted), np.uint8)
    pixels[: len(batch)] = [frame.pixels for frame in batch]
    return encoder.encode(pixels)[: len(batch)]
