"""Lines on a local disk until they are settled: what a kill -9 of the host does not lose.

In: lines, as they are captured. Out: the oldest of those that are not settled, the dead's first.
Guaranteed: a line is in a file when `append` returns; of two processes one has a file, by its lock.
Decision: files of 1 MiB, which go as a whole; so much at most is sent twice after kill -9.
"""

import errno
import os
import time
import uuid
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a spool is refused there

SEGMENT_BYTES = 1 << 20


class Segment:
    """One file of a spool: whole lines, the first of them settled; locked while it is open."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path, self._descriptor = path, descriptor
        self.size, self._settled = size, 0

    @classmethod
    def create(cls, folder: Path) -> "Segment":
        """A new one; names grow with time. Raises OSError."""
        path = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.spool"
        new = path.with_suffix(".new")  # until it is locked, as nobody's would be taken over
        descriptor = _locked(new, os.O_CREAT | os.O_EXCL)
        if descriptor is None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        new.rename(path)
        return cls(path, descriptor, 0)

    @classmethod
    def adopt(cls, path: Path) -> "tuple[Segment, int] | None":
        """One that a dead process left, and its number of lines; None while somebody has it."""
        with suppress(OSError):
            descriptor = _locked(path)
            if descriptor is not None:
                whole, _, _torn = path.read_bytes().rpartition(b"\n")
                size = len(whole) + 1 if whole else 0
                os.ftruncate(descriptor, size)
                segment = cls(path, descriptor, size)
                if size:
                    return segment, whole.count(b"\n") + 1
                segment.remove()
        return None

    def append(self, line: bytes) -> None:
        """Add a line, or nothing. Raises OSError."""
        written = os.write(self._descriptor, line + b"\n")
        if written <= len(line):
            os.ftruncate(self._descriptor, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def lines(self) -> list[bytes]:
        """What is not settled. Raises OSError."""
        return os.pread(self._descriptor, self.size - self._settled, self._settled).split(b"\n")[
            :-1
        ]

    def settle(self, num_bytes: int) -> bool:
        """So much more is settled; whether that is all."""
        self._settled += num_bytes
        return self._settled >= self.size

    def clear(self) -> None:
        """Make it empty. Raises OSError."""
        os.ftruncate(self._descriptor, 0)
        self.size = self._settled = 0

    def remove(self) -> None:
        """All of it is settled."""
        with suppress(OSError):  # then it is sent again one day, under the same ids
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Unlock it: what is in it is for the next process."""
        os.close(self._descriptor)


class Spool:
    """Lines on disk until they are settled, oldest first; several processes may share the folder.

    Each has files of its own. A file goes once all of it is settled. The caller has the lock, but
    for `left_over` and `batch`, which read.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._segments: deque[Segment] = deque()
        self._open: Segment | None = None  # the one that lines are added to, last of all
        self.num_lines = self._num_bytes = 0

    def append(self, line: bytes) -> str | None:
        """Keep a line, or say why not."""
        if self._num_bytes + len(line) >= self._max_bytes:
            return f"the spool has its {self._max_bytes} bytes"
        try:
            if self._open is None or self._open.size >= SEGMENT_BYTES:
                self._open = Segment.create(self._folder)
                self._segments.append(self._open)
            self._open.append(line)
        except OSError as error:
            return f"the spool takes no more: {error.strerror}"
        self.num_lines += 1
        self._num_bytes += len(line) + 1
        return None

    def left_over(self) -> list[tuple[Segment, int]]:
        """The files of processes that are no more, with their numbers of lines, for `adopt`."""
        paths = sorted(self._folder.glob("*.spool"))
        return [found for path in paths if (found := Segment.adopt(path))]

    def adopt(self, found: Iterable[tuple[Segment, int]]) -> None:
        """Take these, too; they come before what is here."""
        for segment, num_lines in reversed(list(found)):
            self._segments.appendleft(segment)
            self.num_lines += num_lines
            self._num_bytes += segment.size

    def batch(self, max_lines: int) -> list[bytes]:
        """The oldest lines, of one file. Raises OSError."""
        return self._segments[0].lines()[:max_lines] if self._segments else []

    def settle(self, lines: Iterable[bytes]) -> None:
        """These, the oldest, are settled."""
        sizes = [len(line) + 1 for line in lines]
        self.num_lines -= len(sizes)
        segment = self._segments[0]
        if segment.settle(sum(sizes)):
            self._drop(segment)

    def close(self) -> None:
        """Leave what is not settled to the next process."""
        if self._open and not self._open.size:
            with suppress(OSError):
                self._open.path.unlink()
        self.let_go()

    def let_go(self) -> None:
        """Close the files as they are; in a forked child, where they are still the parent's."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()

    def _drop(self, segment: Segment) -> None:
        self._num_bytes -= segment.size
        if segment is self._open:
            segment.clear()
            return
        self._segments.popleft()
        segment.remove()


def make_folder(path: Path) -> None:
    """Make a spool's folder. Raises ValueError naming `spool` where that can't be."""
    if fcntl is None:
        raise ValueError("spool: needs file locks, which this system does not have")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"spool: {path} cannot be a folder: {error.strerror}") from error


def _locked(path: Path, flags: int = 0) -> int | None:
    """Open a file that is nobody else's; None where it is. Raises OSError."""
    descriptor = os.open(path, flags | os.O_RDWR | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
