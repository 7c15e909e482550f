"""Where in a checkpoint's files its tensors lie, so that each can be read into memory of its own.

In: model.safetensors or optimizer.pt, just written or verified. Out: its outline, which is what
the file holds with a `Place` for each tensor; and an outline with tensors in their places again.
Nothing of a file's data is read for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

_LENGTH_BYTES = 8  # of a safetensors header
# The names of github.com/huggingface/safetensors, "Format". A tensor of another type has no place.
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


class Place(BaseModel):
    """A contiguous tensor's place in a file: its first byte, and what the bytes are."""

    model_config = ConfigDict(frozen=True)

    offset: int
    type: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """As torch has it."""
        dtype: torch.dtype = getattr(torch, self.type)
        return dtype


def outline(path: Path) -> Any:  # noqa: ANN401  (a tree of anything)
    """What a .safetensors or .pt file holds, with places for tensors."""
    if path.suffix == ".safetensors":
        return _outline_of_safetensors(path)
    held = torch.load(path, map_location="meta", weights_only=True)
    return tree_map(lambda leaf: _place_of(leaf) if isinstance(leaf, Tensor) else leaf, held)


def places_in(path: Path) -> tuple[Place, ...]:
    """All places of a file, by their order in it; tensors that share memory have one."""
    places = {leaf for leaf in tree_leaves(outline(path)) if isinstance(leaf, Place)}
    return tuple(sorted(places, key=lambda place: place.offset))


def filled(tree: Any, tensors: Mapping[Place, Tensor]) -> Any:  # noqa: ANN401
    """An outline with its tensors."""
    return tree_map(lambda leaf: tensors[leaf] if isinstance(leaf, Place) else leaf, tree)


def _outline_of_safetensors(path: Path) -> dict[str, Place | None]:
    with path.open("rb") as file:
        num_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = orjson.loads(file.read(num_bytes))
    header.pop("__metadata__", None)
    return {
        name: Place(
            offset=_LENGTH_BYTES + num_bytes + tensor["data_offsets"][0],
            type=_TYPES[tensor["dtype"]],
            shape=tensor["shape"],
        )
        if tensor["dtype"] in _TYPES
        else None
        for name, tensor in header.items()
    }


def _place_of(tensor: Tensor) -> Place | Tensor:
    """A tensor's place; one that has none, a part of what was saved, stays, without its data."""
    storage = tensor.untyped_storage()
    offset = getattr(storage, "_checkpoint_offset", None)  # torch's own note, on "meta" alone
    if offset is None or not tensor.is_contiguous() or tensor.nbytes != storage.nbytes():
        return tensor
    return Place(offset=offset, type=str(tensor.dtype).removeprefix("torch."), shape=tensor.shape)
