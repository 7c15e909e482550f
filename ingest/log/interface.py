"""The event log as the rest of Stovetop sees it; every implementation passes the same contract.

Guaranteed by each: `append` returns once the records survive a power cut, or raises
`LogUnavailable` and may be repeated; within a partition, records are read in the order of their
offsets, which only grow and are never used again. Offsets of a partition may have gaps. The log
does not know how far it was read: that is committed with the rows made from it (`log_offsets`),
by compare-and-set, so that of two readers of one partition only one brings its rows in.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self


class LogUnavailable(Exception):
    """The log can't keep or give records now; nothing was promised, so try again."""


class ReaderEnded(LogUnavailable):
    """This reader gives nothing any more: open the log anew."""


class NewRecord(NamedTuple):
    """What a producer appends."""

    partition: int
    value: bytes


class LogRecord(NamedTuple):
    """What a reader gets.

    With `lost_from` set it is a gap: what lay from there to `offset` was dropped by the log's
    retention before it was read, and the value is empty.
    """

    partition: int
    offset: int
    value: bytes
    lost_from: int | None = None


class LogReader(Protocol):
    """One reader's way through the partitions that fall to it; for one thread."""

    def poll(self, timeout_s: float, max_records: int) -> list[LogRecord]:
        """The next records, waiting for the first at most `timeout_s`; [] when none came.

        What was durable before the call is never missing because the time was short.
        Raises LogUnavailable, after which it may be asked again, ReaderEnded, after which not, and
        what `start` raises.
        """

    def restart(self, partition: int) -> None:
        """Ask for the partition's start again: another reader brought in what was read here."""

    def close(self) -> None:
        """Give the reader's resources back."""


class EventLog(Protocol):
    """Durable, partitioned, ordered records."""

    @property
    def log_id(self) -> str:
        """This very log's own name: offsets mean nothing in another one."""

    @property
    def num_partitions(self) -> int:
        """How many partitions, fixed when the log was made."""

    def append(self, records: Sequence[NewRecord]) -> None:
        """Keep the records; all are durable on return.

        Raises LogUnavailable: then some may be kept all the same, and all are to be sent again.
        """

    def reader(self, start: Callable[[int], int]) -> LogReader:
        """Read each partition that falls to this reader from the offset of `start(partition)`.

        A log may share its partitions out among the readers that are open at a time; `start` is
        asked, in the reader's own thread, whenever one comes to it.
        """

    def num_waiting(self, offsets: Mapping[int, int]) -> int:
        """How many records are at these offsets or after them. Raises LogUnavailable."""

    def trim(self, before: Mapping[int, int], grace_s: float) -> int:
        """Drop records below these offsets that are older than the grace; returns how many.

        Raises LogUnavailable.
        """

    def rewrite(self, change: Callable[[bytes], bytes]) -> float | None:
        """Let `change` replace every record's value, of the same length; offsets stay.

        Returns None once no file holds a value that was replaced; where records can't be replaced,
        nothing changes, and the answer is after how many seconds the log itself drops a record.
        Raises LogUnavailable.
        """

    def close(self) -> None:
        """Give the log's resources back."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...
