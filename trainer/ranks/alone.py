"""What a run asks of the processes that train it, and the answer of one that trains alone.

In: what rank 0 is about to do. Out: done on every rank, or on none. Rank 0 runs the boundary as if
it were alone and has the others do the same with it; they take no decision. A boundary is quiet,
with nothing but a step's record, unless it was announced: whether it is travels with the step's
loss, in one exchange that begins once the gradients are in and is awaited when the optimizer is
done. Alone, every boundary may be used and none of this costs anything.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

T = TypeVar("T")


class RankFailed(RuntimeError):
    """Another rank could not do its part; says which and why."""


class RankLost(RuntimeError):
    """Another rank does not answer any more: the job can't go on, but can be started again."""


class Member(Protocol):
    """One of the processes that train a run."""

    index: int
    count: int

    @property
    def share(self) -> slice:
        """Which of a step's samples are this rank's."""

    def start_mean(self, value: Callable[[], float]) -> None:
        """Begin to take the mean over all ranks, each of which does; rank 0 announces with it."""

    def mean(self, value: Callable[[], float]) -> float:
        """The mean that was begun, or is now."""

    def collect(self, part: bytes) -> list[bytes]:
        """Every rank's part, by rank, for rank 0; the others get nothing."""

    def close(self) -> None:
        """Part from the others, once all is done."""


class Ranks(Member, Protocol):
    """All ranks, for the one that leads."""

    def say(self, value: Callable[[], str]) -> str:
        """A word of rank 0's that all learn, before anything else."""

    def announce(self, is_wanted: Callable[[], bool]) -> None:
        """A step begins; what says, once its gradients are in, if the boundary after it is used."""

    def is_announced(self) -> bool:
        """Whether the boundary may be used; once the step's mean is known."""

    def speaking(self) -> AbstractContextManager[None]:
        """While the boundary is used: the others wait for orders, however long that takes."""

    def assert_answering(self) -> None:
        """Raise RankLost where another one was found silent since the boundary began."""

    def together(self, order: Callable[[], bytes], own: Callable[[], T]) -> T:
        """Rank 0 does its part while each other one carries out the order.

        Raises what the own part raises, or RankFailed; all have ended theirs by then.
        """


class Alone:
    """One process."""

    index = 0
    count = 1
    share = slice(None)

    def start_mean(self, value: Callable[[], float]) -> None:
        """There is nothing to begin."""

    def mean(self, value: Callable[[], float]) -> float:
        """The value itself."""
        return value()

    def collect(self, part: bytes) -> list[bytes]:
        """The part itself."""
        return [part]

    def close(self) -> None:
        """There is nobody to part from."""

    def say(self, value: Callable[[], str]) -> str:
        """The word itself."""
        return value()

    def announce(self, is_wanted: Callable[[], bool]) -> None:
        """There is nobody to tell."""

    def is_announced(self) -> bool:
        """Always."""
        return True

    def speaking(self) -> AbstractContextManager[None]:
        """Nobody waits."""
        return nullcontext()

    def assert_answering(self) -> None:
        """There is nobody else."""

    def together(self, _order: Callable[[], bytes], own: Callable[[], T]) -> T:
        """Rank 0's part is all there is."""
        return own()
