"""The bounded hand-over between the thread that polls Kafka and the one that stores; no Kafka here.

In, from the polling side: which partitions come and go, and their records. Out, to the storing
side: records in order, once a partition has its start. Guaranteed: a record comes out only while
its partition is held, at or after the offset it was started from, and never twice. What is held is
bounded: `flowing` is empty while `MAX_BYTES` wait, so a slow database pauses the partitions and the
member of the group goes on polling.
"""

import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ingest.log.interface import LogRecord

MAX_BYTES = 16 << 20
MAX_TAKEN_BYTES = 8 << 20


class View(NamedTuple):
    """How far the held partitions were read: settled once each has got its start."""

    is_settled: bool
    positions: Mapping[int, int]


class Inbox:
    """Shared by two threads; `changed` is told of everything that a waiting one may want."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.changed = threading.Condition()
        self._max_bytes = max_bytes
        self._records: deque[LogRecord] = deque()
        self._num_bytes = 0
        self._positions: dict[int, int | None] = {}  # None: held, and waits for its start
        self._seeks: dict[int, int] = {}
        self._is_member = False

    # The polling side.

    def join(self) -> None:
        """The group has decided what is this member's."""
        with self.changed:
            self._is_member = True
            self.changed.notify_all()

    def hold(self, partitions: Iterable[int]) -> None:
        """These came: each waits for its start."""
        with self.changed:
            for partition in partitions:
                self._forget(partition)
                self._positions[partition] = None
            self.changed.notify_all()

    def release(self, partitions: Iterable[int]) -> None:
        """These went; what of them was not taken is dropped."""
        with self.changed:
            for partition in partitions:
                self._forget(partition)
                self._positions.pop(partition, None)
            self.changed.notify_all()

    def seeks(self) -> dict[int, int]:
        """Where to read on, of the partitions that were started since the last call."""
        with self.changed:
            seeks, self._seeks = self._seeks, {}
            return seeks

    def flowing(self) -> Collection[int]:
        """The partitions whose records are wanted now."""
        with self.changed:
            if self._num_bytes >= self._max_bytes:
                return ()
            return [key for key, at in self._positions.items() if at is not None]

    def put(self, records: Iterable[LogRecord]) -> None:
        """Hand over what was polled; what nobody waits for is dropped."""
        with self.changed:
            for record in records:
                position = self._positions.get(record.partition)
                if position is None or record.offset < position or record.partition in self._seeks:
                    continue
                self._records.append(record)
                self._num_bytes += len(record.value)
                self._positions[record.partition] = record.offset + 1
            self.changed.notify_all()

    # The storing side.

    def waiting_for_start(self) -> list[int]:
        """The partitions that came and have no start yet."""
        with self.changed:
            return [key for key, at in self._positions.items() if at is None]

    def start(self, partition: int, offset: int) -> None:
        """Read a partition from here, if it is still held."""
        with self.changed:
            if partition not in self._positions:
                return
            self._forget(partition)
            self._positions[partition] = self._seeks[partition] = offset
            self.changed.notify_all()

    def take(self, max_records: int) -> list[LogRecord]:
        """The oldest that wait, without waiting; not much more than `MAX_TAKEN_BYTES` at a time."""
        taken: list[LogRecord] = []
        num_bytes = 0
        with self.changed:
            while self._records and len(taken) < max_records and num_bytes < MAX_TAKEN_BYTES:
                taken.append(self._records.popleft())
                num_bytes += len(taken[-1].value)
            self._num_bytes -= num_bytes
        return taken

    def view(self) -> View:
        """How far it was read."""
        with self.changed:
            known = {key: at for key, at in self._positions.items() if at is not None}
            return View(self._is_member and len(known) == len(self._positions), known)

    def wants_attention(self) -> bool:
        """Whether there is something to take or to start."""
        with self.changed:
            return bool(self._records) or None in self._positions.values()

    def _forget(self, partition: int) -> None:
        self._seeks.pop(partition, None)
        if any(record.partition == partition for record in self._records):
            self._records = deque(r for r in self._records if r.partition != partition)
            self._num_bytes = sum(len(record.value) for record in self._records)
