"""The SDK: sends events from a thread of its own. One file, standard library only.

    client = Client("https://stovetop.example", key)
    client.capture(session_id="s1", kind="action", payload={"x": 66, "y": 60})
    client.close()

In: events of one host program. Out: `POST /v1/events`, one JSON line an event.
Guaranteed: only the constructor raises; only `flush` and `close` wait, and those are bounded. Every
event ends as one of sent, duplicate, rejected, dropped (`stats`); a retry carries the same ids.
Threads may share a client; in a forked child it starts empty, the parent sends what it captured.
Decision: 408, 429, 5xx and network errors are retried for as long as the client lives, because the
queue is bounded (10 000 events, 64 MiB) and what no longer fits is counted, not waited for.
"""

import atexit
import gzip
import itertools
import json
import logging
import math
import os
import random
import threading
import time
import uuid
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

MAX_EVENT_BYTES = 1 << 20  # the server's limit unless it was told otherwise
MAX_BATCH_BYTES = 4 << 20
MAX_QUEUE_BYTES = 64 << 20
MAX_NUMBERED_SESSIONS = 100_000  # beyond, the longest unused session starts at 0 again
GZIP_FROM_BYTES = 4_096
KEEP_ALIVE_S = 2.0  # servers close idle connections, uvicorn after 5 s
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 300.0
EXIT_DEADLINE_S = 5.0

UNREACHABLE = (OSError, HTTPException)
T = TypeVar("T")
Pause = Callable[[str, float, bool], bool]  # (reason, seconds, server_asked) -> try again
log = logging.getLogger("stovetop")


class Verdicts(NamedTuple):
    """What the server decided on the lines of one request; it will never take a rejected one."""

    accepted: int
    duplicate: int
    rejected: dict[int, tuple[str, str]]  # the line's index: code, detail


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    retry_after: str | None
    body: bytes

    def verdicts(self, num_lines: int) -> Verdicts | None:
        """The server's verdicts; None where they do not account for every line."""
        if self.status not in (200, 202, 422):
            return None
        try:
            fields = json.loads(self.body)
            reasons = {int(r["index"]): (r["code"], r["detail"]) for r in fields["rejected"]}
            verdicts = Verdicts(int(fields["accepted"]), int(fields["duplicate"]), reasons)
        except (ValueError, TypeError, KeyError):
            return None
        num_decided = verdicts.accepted + verdicts.duplicate + len(reasons)
        is_complete = num_decided == num_lines and reasons.keys() <= {*range(num_lines)}
        return verdicts if is_complete else None


class Refused(Exception):
    """The server will not take this request, however often it is sent."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}: {answer.body[:500].decode(errors='replace')}")
        self.answer = answer


class Transport:
    """One kept-alive connection to a Stovetop server, for one thread."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        """Raise ValueError naming `url` or `key` where it cannot be one; nothing is connected."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: {url!r} is no server's address; write http(s)://HOST:PORT")
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError("key: not an API key; paste the one that `stovetop keys create` shows")
        connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = connect(parts.hostname, parts.port, timeout=timeout_s)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
        self._used_at = 0.0

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One attempt; raises UNREACHABLE where no answer came."""
        headers = self._headers
        if body and len(body) >= GZIP_FROM_BYTES:
            body, headers = gzip.compress(body, 6), headers | {"Content-Encoding": "gzip"}
        if time.monotonic() - self._used_at > KEEP_ALIVE_S:
            self._connection.close()
        try:
            self._connection.request(method, self._prefix + path, body, headers)
            with self._connection.getresponse() as response:
                answer = Answer(response.status, response.headers["Retry-After"], response.read())
        except UNREACHABLE:
            self._connection.close()
            raise
        self._used_at = time.monotonic()
        return answer

    def ask(
        self, path: str, body: bytes | None, read: Callable[[Answer], T | None], pause: Pause
    ) -> T | None:
        """Post a body (or get) until `read` understands the answer; None where `pause` gives up.

        Raises Refused for an answer that waiting cannot cure.
        """
        attempt, keeps_trying = 0, True
        while keeps_trying:
            attempt, retry_after = attempt + 1, None
            try:
                answer = self.request("POST" if body else "GET", path, body)
                if (content := read(answer)) is not None:
                    return content
                # Time cures these; a success that `read` does not understand is some proxy's.
                if not (answer.status in (408, 429) or answer.status // 100 in (2, 5)):
                    raise Refused(answer)
                reason, retry_after = f"HTTP {answer.status}", answer.retry_after
            except UNREACHABLE as error:
                reason = f"{type(error).__name__}: {error}"
            keeps_trying = pause(reason, wait_s(attempt, retry_after), retry_after is not None)
        return None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def wait_s(attempt: int, retry_after: str | None) -> float:
    """Seconds after failure 1, 2 ...: Retry-After, or 0.5, 1 ... 30 less up to half by chance."""
    if retry_after and retry_after.isdecimal():
        return min(float(retry_after), MAX_RETRY_AFTER_S)
    return min(MAX_BACKOFF_S, 0.25 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)


class Stats(NamedTuple):
    """Where the captured events are; `queued` includes those being sent."""

    queued: int = 0
    sent: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: int = 0
    retries: int = 0
    last_error: str | None = None


@dataclass(eq=False)
class Client(AbstractContextManager["Client"]):
    """Captures events and sends them in the background; see the module."""

    url: str
    key: str = field(repr=False)
    _: KW_ONLY
    queue_size: int = 10_000  # events
    batch_size: int = 100  # events
    flush_interval_s: float = 0.5
    timeout_s: float = 10.0  # of one wait for the network
    on_error: Callable[[str], None] | None = None  # gets a sentence, never a payload
    on_acknowledged: Callable[[list[str]], None] | None = None  # gets the ids that are stored

    def __post_init__(self) -> None:
        """Raise ValueError naming `url` or `key` where it cannot be one; nothing is connected."""
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._closed = False
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """Start empty: at first, and in a forked child, where lock, socket and thread are void."""
        self._transport = Transport(self.url, self.key, self.timeout_s)
        self._changed = threading.Condition()  # reentrant: a signal handler may capture, too
        self._thread: threading.Thread | None = None
        self._queue: deque[tuple[str, bytes]] = deque()  # event id, its line
        self._queue_bytes = self._num_queued = self._num_settled = 0
        self._num_flushes = self._flush_up_to = 0
        self._stopped = False
        self._counts = Counter[str]()
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

        Events are numbered per session unless `sequence` says otherwise; a number missing at the
        server is a dropped event. `timestamp` is in seconds UTC, by default now.
        """
        event_id = event_id or uuid.uuid4().hex
        try:
            event = {
                "event_id": event_id,
                "session_id": session_id,
                "user_id": user_id,
                "sequence": self._number(session_id, sequence),
                "timestamp": time.time() if timestamp is None else timestamp,
                "kind": kind,
                "payload": dict(payload or {}),
                "model": model,
                "frame": frame,
            }
            present = {name: value for name, value in event.items() if value is not None}
            text = json.dumps(present, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            reason = self._enqueue(event_id, text.encode())
        except Exception as error:
            # The host's own objects may raise anything while they are encoded.
            log.warning("an event could not be captured", exc_info=True)
            reason = f"{type(error).__name__} while it was encoded"
        if reason:
            self._report(f"{kind} event dropped: {reason}", dropped=1)
        return None if reason else event_id

    def _number(self, session_id: str, sequence: int | None) -> int:
        with self._changed:
            next_number = self._numbers.pop(session_id, 0)
            number = next_number if sequence is None else sequence
            self._numbers[session_id] = number + 1
            if len(self._numbers) > MAX_NUMBERED_SESSIONS:
                self._numbers.popitem(last=False)
            return number

    def _enqueue(self, event_id: str, line: bytes) -> str | None:
        """Put an event into the queue, or say why not."""
        if len(line) > MAX_EVENT_BYTES:
            return f"{len(line)} bytes, at most {MAX_EVENT_BYTES} are taken"
        with self._changed:
            if self._closed:
                return "the client is closed"
            num_bytes = self._queue_bytes + len(line)
            if len(self._queue) >= self.queue_size or num_bytes > MAX_QUEUE_BYTES:
                return "the queue is full"
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="stovetop", daemon=True)
                self._thread.start()
            self._queue.append((event_id, line))
            self._queue_bytes = num_bytes
            self._num_queued += 1
            if len(self._queue) in (1, self.batch_size):
                self._changed.notify_all()
        return None

    def _report(self, reason: str, **counts: int) -> None:
        with self._changed:
            self._counts.update(counts)
            self._last_error = reason
        _call(self.on_error, reason)

    def _run(self) -> None:
        while batch := self._next_batch():
            self._send(batch)
        self._transport.close()

    def _next_batch(self) -> list[tuple[str, bytes]]:
        """Wait for a full batch, for the flush interval, or for a flush; [] once stopped.

        Events stay in the queue until they are settled, so that a dead thread loses none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            self._changed.wait_for(self._is_batch_due, self.flush_interval_s)
            first = list(itertools.islice(self._queue, self.batch_size))
        sizes = itertools.accumulate(len(line) for _, line in first)
        return first[: sum(size <= MAX_BATCH_BYTES for size in sizes)]

    def _is_batch_due(self) -> bool:
        is_flushing = self._flush_up_to > self._num_settled
        return is_flushing or self._stopped or len(self._queue) >= self.batch_size

    def _send(self, batch: list[tuple[str, bytes]]) -> None:
        try:
            body = b"\n".join(line for _, line in batch)
            read = partial(Answer.verdicts, num_lines=len(batch))
            verdicts = self._transport.ask("/v1/events", body, read, self._pause)
        except Refused as refused:
            if refused.answer.status == 413 and len(batch) > 1:
                self._send(batch[: len(batch) // 2])
                self._send(batch[len(batch) // 2 :])
                return
            reason = f"http_{refused.answer.status}", str(refused)
            verdicts = Verdicts(0, 0, dict.fromkeys(range(len(batch)), reason))
        if verdicts:
            self._settle([event_id for event_id, _ in batch], verdicts)

    def _pause(self, reason: str, seconds: float, server_asked: bool) -> bool:
        """Wait; a new flush or close cuts it short unless the server asked for it."""
        self._report(reason, retries=1)
        with self._changed:
            seen = math.inf if server_asked else self._num_flushes
            self._changed.wait_for(lambda: self._stopped or self._num_flushes > seen, seconds)
            return not self._stopped

    def _settle(self, event_ids: list[str], verdicts: Verdicts) -> None:
        acknowledged = [each for i, each in enumerate(event_ids) if i not in verdicts.rejected]
        # Before the counts: whoever waits in flush finds every acknowledgement reported.
        if acknowledged:
            _call(self.on_acknowledged, acknowledged)
        for index, (code, detail) in verdicts.rejected.items():
            self._report(f"event {event_ids[index]} rejected: {code}: {detail}")
        with self._changed:
            if self._stopped:
                return  # close gave them up and counted them as dropped
            for _ in event_ids:
                self._queue_bytes -= len(self._queue.popleft()[1])
            self._num_settled += len(event_ids)
            counts = {"sent": verdicts.accepted, "duplicate": verdicts.duplicate}
            self._counts.update(counts, rejected=len(verdicts.rejected))
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
        """Take no more, flush, and drop what is left at the timeout; True where nothing was."""
        deadline = time.monotonic() + timeout_s
        self._closed = True
        is_settled = self.flush(timeout_s)
        with self._changed:
            self._stopped = True
            num_left = len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        if num_left:
            self._report(f"closed with {num_left} events unsent", dropped=num_left)
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(max(deadline - time.monotonic(), 0.0))
        return is_settled

    def stats(self) -> Stats:
        """The counts so far; the first five add up to the events that were captured."""
        with self._changed:
            return Stats(len(self._queue), last_error=self._last_error, **self._counts)

    def __exit__(self, *_: object) -> None:
        self.close()


def _call(callback: Callable[[Any], None] | None, argument: object) -> None:
    """Call the host's function; what it raises is the host's to read in its log."""
    try:
        if callback:
            callback(argument)
    except Exception:
        log.exception("a callback of the stovetop client raised")


def _close_all() -> None:
    deadline = time.monotonic() + EXIT_DEADLINE_S
    for client in list(_clients):
        client.close(max(deadline - time.monotonic(), 0.0))


def _begin_all() -> None:
    for client in list(_clients):
        client._transport.close()
        client._begin()


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)
