"""A state's tensors, copied into memory that is there already, and back into the live ones.

In: a state as `state_dict` gives it: dicts, lists, tensors, plain values. Out: the same, copied.
Decision: the memory of a copy is kept for the next one. The first touch of 1.3 GB of fresh memory
costs up to 4 s here, the copy itself 0.14 s; for the same reason a restored optimizer's tensors
are written into those that it has.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Key = tuple[torch.dtype, tuple[int, ...]]


class Memory:
    """Where one copy lies, in main memory; each new copy takes the place of the last."""

    def __init__(self) -> None:
        self._spare: dict[Key, list[Tensor]] = {}

    def copy(self, state: Any) -> Any:  # noqa: ANN401  (a tree of anything)
        """A copy of all tensors; what shares its memory shares it in the copy, too."""
        taken: dict[Key, list[Tensor]] = {}
        known: dict[tuple[int, Key], Tensor] = {}

        def copied(tensor: Tensor) -> Tensor:
            key = (tensor.dtype, tuple(tensor.shape))
            same = (tensor.data_ptr(), key)
            if same not in known or not tensor.numel():
                spare = self._spare.get(key)
                place = spare.pop() if spare else torch.empty(key[1], dtype=key[0], device="cpu")
                known[same] = place.copy_(tensor.detach())
                taken.setdefault(key, []).append(known[same])
            return known[same]

        copy = _mapped(copied, state)
        self._spare = taken
        return copy


def put_back(saved: Any, live: Any) -> Any:  # noqa: ANN401  (a tree of anything)
    """`saved`, its tensors written into those of `live` where they fit, else cloned."""
    if isinstance(saved, Tensor):
        if isinstance(live, Tensor) and (live.shape, live.dtype) == (saved.shape, saved.dtype):
            return live.detach().copy_(saved)
        return saved.clone()
    if isinstance(saved, Mapping):
        others = live if isinstance(live, Mapping) else {}
        return {key: put_back(value, others.get(key)) for key, value in saved.items()}
    if isinstance(saved, list):
        beside = live if isinstance(live, list) and len(live) == len(saved) else [None] * len(saved)
        return [put_back(value, other) for value, other in zip(saved, beside, strict=True)]
    return saved


def _mapped(change: Callable[[Tensor], Tensor], state: Any) -> Any:  # noqa: ANN401
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, Mapping):
        return {key: _mapped(change, value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_mapped(change, value) for value in state)
    return state
