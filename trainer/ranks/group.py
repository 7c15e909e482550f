"""The processes that torchrun or `accelerate launch` started, on a gloo group of ours.

In: what rank 0 says. Out: the same, heard by every rank, or RankLost. The group is apart from the
one that gradients travel on, so that neither waits for the other; orders are bytes that this folder
does not read. While rank 0 takes its time, paused or writing, it says `still here` every third of
the timeout, so that no wait for it is ever longer. A rank that dies is noticed at once where its
connections break, and after the timeout where they don't; decision: 60 s, and 30 min while an order
is carried out, for a rank that reads a large checkpoint says nothing meanwhile. It is one group,
for each has a thread of gloo's that wakes up 100 times a second.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import AllgatherOptions

from trainer.ranks.alone import Alone, RankFailed, RankLost, Ranks, T

TIMEOUT_S = 60.0
GRADIENTS_TIMEOUT_S = 300.0  # of torch's own group, where nobody has made it: 30 min by default
ORDER_TIMEOUT_S = 1800.0
_OVER, _TICK = b"over", b"tick"
_REPLY_BYTES = 512
# What torch raises where a peer is gone or silent is a RuntimeError, and nothing more precise.
_BROKEN = RuntimeError
_GLOO = "gloo/transport"  # where such an error of gloo's says that it comes from


def is_several() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(timeout_s: float = TIMEOUT_S) -> "Ranks | Other":
    """This process's place among those that were started with it.

    Every one of them calls this once, at the same point.
    """
    if not is_several():
        return Alone()
    if not dist.is_initialized():
        _meet()
    return First(timeout_s) if dist.get_rank() == 0 else Other(timeout_s)


def is_of_another(error: BaseException) -> bool:
    """Whether an error is that another rank is gone or silent, whichever group noticed."""
    if isinstance(error, RankLost | dist.DistError):
        return True
    if type(error) is RuntimeError and _GLOO in str(error):
        return True
    return error.__cause__ is not None and is_of_another(error.__cause__)


def _meet() -> None:
    """Make torch's own group. Raises RankLost where a process does not come."""
    backend = "cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=GRADIENTS_TIMEOUT_S))
    except _BROKEN as error:
        told = {name: os.environ.get(name) for name in ("RANK", "MASTER_ADDR", "MASTER_PORT")}
        raise RankLost(
            f"not all {os.environ['WORLD_SIZE']} processes have met in {GRADIENTS_TIMEOUT_S:g} s, "
            f"says the one with {told}; start the job anew: {error}"
        ) from error


class _Member:
    """What both kinds can do."""

    def __init__(self, timeout_s: float) -> None:
        self.index = dist.get_rank()
        self.count = dist.get_world_size()
        self._timeout_s = timeout_s
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        assert isinstance(group, dist.ProcessGroup)  # every rank is in it
        self._group = group
        self._sum = torch.zeros(2, dtype=torch.float64)  # of the losses; what rank 0 announces
        self._adding: Any = None

    def close(self) -> None:
        """Leave the group, with the others; torch's own stays, for it may be somebody else's."""
        dist.destroy_process_group(self._group)

    @property
    def share(self) -> slice:
        """Every `count`-th of a step's samples, so that each rank's are mixed like the step."""
        return slice(self.index, None, self.count)

    def start_mean(self, value: Callable[[], float]) -> None:
        """Begin to take the mean over all ranks, each of which does; rank 0 announces with it."""
        self._sum[0], self._sum[1] = value(), self._announcement()
        with _answered():
            self._adding = dist.all_reduce(self._sum, group=self._group, async_op=True)

    def mean(self, value: Callable[[], float]) -> float:
        """The mean that was begun, or is now, where the optimizer took no step."""
        if self._adding is None:
            self.start_mean(value)
        with _answered():
            self._adding.wait()
        self._adding = None
        return float(self._sum[0]) / self.count

    def is_announced(self) -> bool:
        """Whether the boundary may be used; once the step's mean is known."""
        return bool(self._sum[1])

    def _announcement(self) -> float:
        return 0.0

    def collect(self, part: bytes) -> list[bytes]:
        """Every rank's part, by rank, for rank 0; the others get nothing."""
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        with _answered():
            dist.all_gather(sizes, torch.tensor([len(part)]), group=self._group)
            longest = max(int(size) for size in sizes)
            padded = _tensor(part.ljust(longest, b"\0"))
            parts = [torch.empty_like(padded) for _ in sizes] if self.index == 0 else None
            dist.gather(padded, parts, dst=0, group=self._group)
        pairs = zip(parts or [], sizes, strict=False)
        return [_bytes(tensor)[: int(size)] for tensor, size in pairs]

    def _broadcast(self, message: bytes | None) -> bytes:
        size = torch.tensor([len(message or b"")])
        dist.broadcast(size, 0, group=self._group)
        data = torch.empty(int(size), dtype=torch.uint8) if message is None else _tensor(message)
        if len(data):
            dist.broadcast(data, 0, group=self._group)
        return _bytes(data)

    def _has_heard(self) -> None:
        """Every rank has heard what was said, and lives."""
        dist.barrier(group=self._group)

    def _replies(self, reply: bytes) -> list[bytes]:
        replies = [torch.empty(_REPLY_BYTES, dtype=torch.uint8) for _ in range(self.count)]
        own = _tensor(reply[:_REPLY_BYTES].ljust(_REPLY_BYTES, b"\0"))
        patient = AllgatherOptions()
        patient.timeout = timedelta(seconds=ORDER_TIMEOUT_S)
        self._group.allgather([replies], [own], patient).wait()
        return [_bytes(each).rstrip(b"\0") for each in replies]


class First(_Member):
    """Rank 0, which leads; one thread of its own keeps the others waiting."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        # Broadcasts of two threads must not mix; whoever holds this speaks.
        self._voice = threading.RLock()
        self._broken: Exception | None = None
        self._is_wanted: Callable[[], bool] = bool

    def say(self, value: Callable[[], str]) -> str:
        """A word that all learn; the others wait for it however long it takes."""
        try:
            with self.speaking():
                said = value()
        except BaseException:
            self._say(_OVER)
            self._say(b"")
            raise
        self._say(said.encode())
        return said

    def announce(self, is_wanted: Callable[[], bool]) -> None:
        """A step begins; the others learn while its optimizer steps if the boundary is used."""
        self._is_wanted = is_wanted

    def _announcement(self) -> float:
        return float(self._is_wanted())

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """The others wait for orders within; where it breaks off, they are left without."""
        over = threading.Event()
        ticking = threading.Thread(target=self._tick, args=(over,), name="ticks", daemon=True)
        ticking.start()
        try:
            yield
        finally:
            over.set()
            ticking.join()
        self._say(_OVER)

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(self._timeout_s / 3):
            try:
                with self._voice:
                    self._broadcast(_TICK)
                    self._has_heard()
            except _BROKEN as error:
                self._broken = error
                return

    def assert_answering(self) -> None:
        """Raise RankLost where another one was found silent since the boundary began."""
        if self._broken is not None:
            raise RankLost(f"another rank does not answer: {self._broken}") from self._broken

    def together(self, order: Callable[[], bytes], own: Callable[[], T]) -> T:
        """See `Ranks`. An order that rank 0's own part fails in is carried out all the same."""
        with self._voice:
            self._say(order())
            try:
                done = own()
            finally:
                with _answered():
                    replies = self._replies(b"")
        for index, reply in enumerate(replies):
            if reply:
                raise RankFailed(f"rank {index}: {reply.decode(errors='replace')}")
        return done

    def _say(self, message: bytes) -> None:
        self.assert_answering()
        with self._voice, _answered():
            self._broadcast(message)


class Other(_Member):
    """Any other rank, which follows."""

    def learn(self) -> str:
        """What rank 0 says. Raises RankLost where it had to give up."""
        self.listen(_nothing)
        with _answered():
            word = self._broadcast(None).decode()
        if not word:
            raise RankLost("rank 0 could not begin; see what it says")
        return word

    def listen(self, carry_out: Callable[[bytes], None]) -> None:
        """Carry out orders until rank 0 has said all; one that fails is answered with the error."""
        while True:
            with _answered():
                order = self._broadcast(None)
            if order == _OVER:
                return
            if order == _TICK:
                with _answered():
                    self._has_heard()
                continue
            reply = _reply(carry_out, order)
            with _answered():
                self._replies(reply)


def _reply(carry_out: Callable[[bytes], None], order: bytes) -> bytes:
    try:
        carry_out(order)
    except RankLost:
        raise
    except Exception as error:  # noqa: BLE001  # the answer: rank 0 fails the command with it
        return f"{type(error).__name__}: {error}".encode()
    return b""


def _nothing(_order: bytes) -> None:
    pass


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise RankLost(f"another rank does not answer: {error}") from error


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0).byte()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
