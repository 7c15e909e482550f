"""A state's tensors, copied into memory that is there already, and back into the live ones.

In: a state as `state_dict` gives it: dicts, lists, tensors, plain values. Out: the same, copied.
Decision: memory is kept from one copy to the next. The first touch of 1.3 GB of fresh memory
costs up to 4 s here, the copy itself 0.14 s; for the same reason a restored optimizer's tensors
are written into those that it has.
"""

from collections.abc import Callable, Collection, Mapping
from threading import Lock
from typing import Any

import torch
from torch import Tensor

Key = tuple[torch.dtype, tuple[int, ...]]


class Memory:
    """Main memory that nobody uses now, as tensors; whoever takes one may give it back.

    In any thread.
    """

    def __init__(self) -> None:
        self._spare: dict[Key, dict[int, Tensor]] = {}  # by address: nothing is in it twice
        self._lock = Lock()

    def take(self, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A contiguous tensor with anything in it."""
        with self._lock:
            if spare := self._spare.get((dtype, shape)):
                return spare.popitem()[1]
        return torch.empty(shape, dtype=dtype, device="cpu")

    def give_back(self, state: Any) -> None:  # noqa: ANN401  (a tree of anything)
        """Nobody uses the tensors of a state any more."""

        def give(tensor: Tensor) -> Tensor:
            key = (tensor.dtype, tuple(tensor.shape))
            self._spare.setdefault(key, {})[tensor.data_ptr()] = tensor
            return tensor

        with self._lock:
            _mapped(give, state)

    def clear(self) -> None:
        """Forget all that was given back."""
        with self._lock:
            self._spare.clear()

    def copy(self, state: Any, leaving: Collection[int] = ()) -> Any:  # noqa: ANN401
        """A copy of all tensors; what shares its memory shares it in the copy, too.

        Tensors at the addresses `leaving` are not copied: their memory is the copy's own from now
        on.
        """
        known: dict[tuple[int, Key], Tensor] = {}

        def copied(tensor: Tensor) -> Tensor:
            key = (tensor.dtype, tuple(tensor.shape))
            same = (tensor.data_ptr(), key)
            if same not in known or not tensor.numel():
                own = tensor.detach()
                known[same] = own if same[0] in leaving else self.take(*key).copy_(own)
            return known[same]

        return _mapped(copied, state)


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
