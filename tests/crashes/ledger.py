"""What was sent, and what was promised of it: the truth that a crash is judged by.

Nothing here asks the product's database; ids and digests come from its pure functions alone.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from ingest.events import Event, Refusal, event_digest, parse_event
from ingest.neuralos_log import read_line

SOURCE = "crashes"

Letter = tuple[str, bytes]  # code, original bytes


@dataclass(frozen=True)
class Request:
    """One request, and what an answer to it promises.

    `events` come into the buffer, by id with their digest; `letters` into the dead letters.
    """

    path: str
    body: bytes
    content_type: str
    num_items: int
    events: dict[str, str] = field(default_factory=dict)
    letters: frozenset[Letter] = frozenset()


@dataclass
class Ledger:
    """All requests so far; for any number of threads."""

    promised: dict[str, str] = field(default_factory=dict)
    promised_letters: set[Letter] = field(default_factory=set)
    possible: dict[str, set[str]] = field(default_factory=dict)  # what nobody promised
    possible_letters: set[Letter] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, request: Request) -> None:
        """It was answered: all of it is kept."""
        with self._lock:
            self.promised.update(request.events)
            self.promised_letters |= request.letters
            self.counts["acknowledged"] += request.num_items

    def give_up(self, request: Request) -> None:
        """It was sent and never answered: each of it may be kept, once, or not."""
        with self._lock:
            for event_id, digest in request.events.items():
                self.possible.setdefault(event_id, set()).add(digest)
            self.possible_letters |= request.letters
            self.counts["given up"] += request.num_items


def events_request(wire: Iterable[dict[str, object]], *, as_lines: bool = False) -> Request:
    """Wire events as JSON or NDJSON; of those that are none, the answer alone tells."""
    wire = list(wire)
    read = [parse_event(event) for event in wire]
    events = {each.event_id: event_digest(each) for each in read if not isinstance(each, Refusal)}
    if as_lines:
        body, kind = b"\n".join(map(orjson.dumps, wire)), "application/x-ndjson"
    else:
        body, kind = orjson.dumps(wire), "application/json"
    return Request("/v1/events", body, kind, len(wire), events)


def conflict_request(wire: dict[str, object]) -> Request:
    """An event under the id of another one that is kept: it becomes a dead letter."""
    event = parse_event(wire)
    assert not isinstance(event, Refusal)
    letter = ("conflict", event.model_dump_json(exclude_unset=True).encode())
    body = orjson.dumps([wire])
    return Request("/v1/events", body, "application/json", 1, letters=frozenset([letter]))


def lines_request(lines: Iterable[bytes]) -> Request:
    """Lines of the deployed demo's log; what can't be an event becomes a dead letter."""
    lines = list(lines)
    read = [(line, read_line(SOURCE, line)) for line in lines]
    events = {each.event_id: event_digest(each) for _, each in read if _is_event(each)}
    letters = frozenset((each.code, line) for line, each in read if isinstance(each, Refusal))
    body = b"\n".join(lines)
    return Request("/v1/logs/neuralos", body, "application/x-ndjson", len(lines), events, letters)


def _is_event(read: Event | Refusal) -> bool:
    return not isinstance(read, Refusal)
