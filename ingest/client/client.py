"""The client: captures events in the host's threads, sends them from one of its own.

In: events. Out: requests, and counts. Guaranteed: as the package says. Whatever is captured lies in
the spool, else in memory, until the server has decided on it; only then does it leave.
"""

import itertools
import json
import logging
import math
import os
import threading
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .host import look_after
from .spool import Spool, make_folder
from .transport import Answer, Refused, Transport, Verdicts

MAX_EVENT_BYTES = 1 << 20  # the server's limit unless it was told otherwise
MAX_BATCH_BYTES = 4 << 20
MAX_QUEUE_BYTES = 64 << 20
MAX_NUMBERED_SESSIONS = 100_000  # beyond, the longest unused session starts at 0 again

Event = dict[str, Any]  # as it is sent, see `Client.capture`
log = logging.getLogger("stovetop")


class Batch(NamedTuple):
    """Lines of one request, from the spool or from memory."""

    lines: list[bytes]
    is_spooled: bool

    def halves(self) -> "tuple[Batch, Batch]":
        """Two of it, in order."""
        half = len(self.lines) // 2
        return Batch(self.lines[:half], self.is_spooled), Batch(self.lines[half:], self.is_spooled)


class Stats(NamedTuple):
    """Where the captured events are; `queued` includes those being sent and those in the spool.

    The first seven add up to what was captured, and taken over from the spool of a dead process.
    """

    queued: int = 0
    sent: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: int = 0
    withheld: int = 0
    kept: int = 0
    retries: int = 0
    last_error: str | None = None


@dataclass(eq=False)
class Client(AbstractContextManager["Client"]):
    """Captures events and sends them in the background; see the module.

    `before_send` gets each event as it will be sent and returns it, changed or not, or None to
    withhold it. `spool` is a folder for one source; processes may share it.
    """

    url: str
    key: str = field(repr=False)
    _: KW_ONLY
    queue_size: int = 10_000  # events
    batch_size: int = 500  # events
    flush_interval_s: float = 0.5
    timeout_s: float = 10.0  # of one wait for the network
    spool: str | os.PathLike[str] | None = None
    spool_bytes: int = 64 << 20  # of one process
    before_send: Callable[[Event], Event | None] | None = None
    on_error: Callable[[str], None] | None = None  # gets a sentence, never a payload
    on_acknowledged: Callable[[list[str]], None] | None = None  # gets the ids that are stored

    def __post_init__(self) -> None:
        """Raise ValueError naming `url`, `key` or `spool` where it can't be one; don't connect."""
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._closed = False
        self._begin()
        if self.spool is not None:
            make_folder(Path(self.spool))
            with self._changed:
                self._ensure_thread()  # somebody's events may be there
        look_after(self)

    def _begin(self) -> None:
        """Start empty: at first, and in a forked child, where lock, socket and thread are void."""
        self._transport = Transport(self.url, self.key, self.timeout_s)
        self._changed = threading.Condition()  # reentrant: a signal handler may capture, too
        self._thread: threading.Thread | None = None
        self._queue: deque[bytes] = deque()
        self._spool = Spool(Path(self.spool), self.spool_bytes) if self.spool is not None else None
        self._queue_bytes = self._num_queued = self._num_settled = 0
        self._num_flushes = self._flush_up_to = 0
        self._stopped = False
        self._counts = Counter[str]()
        self._told: set[str] = set()
        self._last_error: str | None = None

    def capture(  # noqa: PLR0913  (one argument a field of the event)
        self,
        *,
        session_id: str,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        sequence: int | None = None,
        user_id: str | None = None,
        timestamp: float | None = None,
        event_id: str | None = None,
        model: str | None = None,
        frame: str | None = None,
    ) -> str | None:
        """Take one event, to be sent soon; its id, or None where it was dropped (and counted).

        Events are numbered per session, after `before_send`, unless `sequence` says otherwise; a
        number missing at the server is a dropped event. `timestamp` is seconds UTC, by default now.
        """
        given = {
            "event_id": event_id or uuid.uuid4().hex,
            "session_id": session_id,
            "user_id": user_id,
            "sequence": sequence,
            "timestamp": time.time() if timestamp is None else timestamp,
            "kind": kind,
            "payload": payload,
            "model": model,
            "frame": frame,
        }
        doing = "before_send"
        try:
            event: Event = {name: each for name, each in given.items() if each is not None}
            event["payload"] = {} if payload is None else dict(payload)
            passed = self.before_send(event) if self.before_send else event
            if passed is None:
                self._count("withheld")
                return None
            doing = "encoding"
            event_id = str(passed["event_id"])
            passed["sequence"] = self._number(passed["session_id"], passed.get("sequence"))
            text = json.dumps(passed, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            lost = self._enqueue(text.encode())
        except Exception as error:  # the host's own function and objects may raise anything
            log.debug("an event was lost in %s", doing, exc_info=True)
            lost = doing, f"{type(error).__name__} in {doing}"
        if lost is None:
            return event_id
        cause, reason = lost
        self._count("dropped")
        self._tell(cause, f"{kind} event dropped: {reason}")
        return None

    def _count(self, fate: str) -> None:
        with self._changed:
            self._counts[fate] += 1

    def _number(self, session_id: str, sequence: int | None) -> int:
        with self._changed:
            next_number = self._numbers.pop(session_id, 0)
            number = next_number if sequence is None else sequence
            self._numbers[session_id] = number + 1
            if len(self._numbers) > MAX_NUMBERED_SESSIONS:
                self._numbers.popitem(last=False)
            return number

    def _enqueue(self, line: bytes) -> tuple[str, str] | None:
        """Put a line into the spool, else into the queue; or say what keeps it out, and why."""
        if len(line) > MAX_EVENT_BYTES:
            return "size", f"{len(line)} bytes, at most {MAX_EVENT_BYTES} are taken"
        with self._changed:
            if self._closed:
                return "closed", "the client is closed"
            self._ensure_thread()
            # In order: what is in the spool is older than what is in memory.
            spooled = self._spool is not None and not self._queue
            full = self._spool.append(line) if self._spool is not None and spooled else ""
            if full is not None:
                num_bytes = self._queue_bytes + len(line)
                if len(self._queue) >= self.queue_size or num_bytes > MAX_QUEUE_BYTES:
                    return "full", "the queue is full"
                self._queue.append(line)
                self._queue_bytes = num_bytes
            self._num_queued += 1
            if self._num_waiting() in (1, self.batch_size):
                self._changed.notify_all()
        if full:
            self._tell("spool", f"{full}; events wait in memory")
        return None

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="stovetop", daemon=True)
            self._thread.start()

    def _num_waiting(self) -> int:
        return len(self._queue) + (self._spool.num_lines if self._spool else 0)

    def _tell(self, cause: str, reason: str) -> None:
        """Tell the host, but of each cause once: it may lose 10 000 events a second by it."""
        with self._changed:
            self._last_error = reason
            if cause in self._told:
                return
            self._told.add(cause)
        log.warning("%s; more of these are only counted", reason)
        _call(self.on_error, reason)

    def _report(self, reason: str, **counts: int) -> None:
        with self._changed:
            self._counts.update(counts)
            self._last_error = reason
        _call(self.on_error, reason)

    def _run(self) -> None:
        self._take_over()
        while batch := self._next_batch():
            self._send(batch)
        self._transport.close()
        if self._spool:
            self._spool.close()

    def _take_over(self) -> None:
        """Make what dead processes have left in the spool ours."""
        if self._spool is None:
            return
        found = self._spool.left_over()
        with self._changed:
            self._spool.adopt(found)
            self._num_queued += sum(num_lines for _, num_lines in found)

    def _next_batch(self) -> Batch | None:
        """Wait for a full batch, for the flush interval, or for a flush; None once stopped.

        Events stay where they are until they are settled, so that a dead thread loses none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._num_waiting() or self._stopped)
            self._changed.wait_for(self._is_batch_due, self.flush_interval_s)
            if self._stopped:
                return None
            spooled = self._spool if self._spool and self._spool.num_lines else None
            first = [] if spooled else list(itertools.islice(self._queue, self.batch_size))
        if spooled:
            first = spooled.batch(self.batch_size)
        sizes = itertools.accumulate(len(line) for line in first)
        return Batch(first[: sum(size <= MAX_BATCH_BYTES for size in sizes)], spooled is not None)

    def _is_batch_due(self) -> bool:
        is_flushing = self._flush_up_to > self._num_settled
        return is_flushing or self._stopped or self._num_waiting() >= self.batch_size

    def _send(self, batch: Batch) -> None:
        num_lines = len(batch.lines)
        try:
            body = b"\n".join(batch.lines)
            read = partial(Answer.verdicts, num_lines=num_lines)
            verdicts = self._transport.ask("/v1/events", body, read, self._pause)
        except Refused as refused:
            if refused.answer.status == 413 and num_lines > 1:
                for half in batch.halves():
                    self._send(half)
                return
            reason = f"http_{refused.answer.status}", str(refused)
            verdicts = Verdicts(0, 0, dict.fromkeys(range(num_lines), reason))
        if verdicts:
            self._settle(batch, verdicts)

    def _pause(self, reason: str, seconds: float, server_asked: bool) -> bool:
        """Wait; a new flush or close cuts it short unless the server asked for it."""
        self._report(reason, retries=1)
        with self._changed:
            seen = math.inf if server_asked else self._num_flushes
            self._changed.wait_for(lambda: self._stopped or self._num_flushes > seen, seconds)
            return not self._stopped

    def _settle(self, batch: Batch, verdicts: Verdicts) -> None:
        # Before the counts: whoever waits in flush finds every acknowledgement reported.
        if self.on_acknowledged:
            lines = (each for i, each in enumerate(batch.lines) if i not in verdicts.rejected)
            if acknowledged := [_event_id(line) for line in lines]:
                _call(self.on_acknowledged, acknowledged)
        for index, (code, detail) in verdicts.rejected.items():
            self._report(f"event {_event_id(batch.lines[index])} rejected: {code}: {detail}")
        with self._changed:
            if self._stopped:
                return  # close gave them up: they are counted already
            if batch.is_spooled and self._spool:
                self._spool.settle(batch.lines)
            else:
                for _ in batch.lines:
                    self._queue_bytes -= len(self._queue.popleft())
            self._num_settled += len(batch.lines)
            counts = {"sent": verdicts.accepted, "duplicate": verdicts.duplicate}
            self._counts.update(counts, rejected=len(verdicts.rejected))
            self._told -= {"full", "spool"}
            self._changed.notify_all()

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything captured before this call is settled; False at the timeout."""
        with self._changed:
            up_to = self._flush_up_to = self._num_queued
            self._num_flushes += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._num_settled >= up_to or self._stopped, timeout_s)
            return self._num_settled >= up_to

    def close(self, timeout_s: float = 5.0) -> bool:
        """Take no more and flush; at the timeout drop what is left, but for what is in the spool.

        True where nothing was left.
        """
        deadline = time.monotonic() + timeout_s
        self._closed = True
        is_settled = self.flush(timeout_s)
        with self._changed:
            first_time, self._stopped = not self._stopped, True
            num_left, num_kept = len(self._queue), self._num_waiting() - len(self._queue)
            self._queue.clear()
            if first_time:
                self._counts["kept"] += num_kept
            self._changed.notify_all()
        if num_left:
            self._report(f"closed with {num_left} events unsent", dropped=num_left)
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(max(deadline - time.monotonic(), 0.0))
        return is_settled

    def stats(self) -> Stats:
        """The counts so far."""
        with self._changed:
            num_queued = 0 if self._stopped else self._num_waiting()
            return Stats(num_queued, last_error=self._last_error, **self._counts)

    def __exit__(self, *_: object) -> None:
        self.close()

    def hold_still(self) -> None:
        """See `host`."""
        self._changed.acquire()

    def go_on(self) -> None:
        """See `host`."""
        self._changed.release()

    def begin_anew(self) -> None:
        """See `host`."""
        self._transport.close()
        if self._spool:
            self._spool.let_go()
        self._begin()


def _event_id(line: bytes) -> str:
    try:
        return str(json.loads(line)["event_id"])
    except (ValueError, TypeError, KeyError):  # a damaged spool
        return "that cannot be read"


def _call(callback: Callable[[Any], None] | None, argument: object) -> None:
    """Call the host's function; what it raises is the host's to read in its log."""
    try:
        if callback:
            callback(argument)
    except Exception:
        log.exception("a callback of the stovetop client raised")
