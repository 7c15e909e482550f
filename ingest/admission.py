"""What of a request may be kept at all: nothing of a forgotten session, and what is redacted.

In: what the events of a request were read as, and the lines that they are in the log. Out: the
same, refused or written anew. Guaranteed: what a source's redaction takes away, or what belongs to
a session that is forgotten, is behind this neither in the log nor among the dead letters.
"""

import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.orm import Session

from ingest.envelope import Unreadable
from ingest.events import Event, Refusal, event_line, session_key
from ingest.forgetting.tombstones import (
    Forgotten,
    load_forgotten,
    session_tombstone,
    tombstones_in,
)
from ingest.redaction import Redaction, fingerprint, redacted, renamed
from ingest.sources import redaction_of

FORGOTTEN_DETAIL = "session_id: this session is forgotten and takes nothing any more"
UNREADABLE_DETAIL = "its source is redacted: only the hash and the length are kept"


class Entry(NamedTuple):
    """One event or line of a request: what it was read as, and how it goes on into the log."""

    read: Event | Refusal
    line: bytes


@dataclass(frozen=True)
class Admission:
    """The rules for one request of a source, which names some sessions that are forgotten."""

    source: str
    redaction: Redaction
    forgotten: Forgotten
    forgotten_sessions: Set[str]

    def event(self, entry: Entry) -> Entry:
        """An event as it may be kept, or why not."""
        event = entry.read
        if isinstance(event, Refusal):
            return entry
        if event.session_id in self.forgotten_sessions:
            return Entry(Refusal("forgotten", FORGOTTEN_DETAIL, event.event_id), b"")
        kept = redacted(event, self.redaction)
        if kept is event:
            return entry
        return Entry(kept, b"" if isinstance(kept, Refusal) else event_line(kept))

    def line(self, entry: Entry) -> Entry:
        """A log line's event as it may be kept; a redacted one has an id of what is left of it."""
        admitted = self.event(entry)
        if self.redaction == "keep" or isinstance(admitted.read, Refusal):
            return admitted
        event = renamed(self.source, admitted.read)
        return Entry(event, event_line(event))

    def letter(self, refusal: Refusal, line: bytes) -> Unreadable | None:
        """What is kept of a line that could not be read; None for nothing."""
        if refusal.code == "forgotten":
            return None
        if self.forgotten.has_original(self.source, line, time.time()):
            return None
        if self.redaction == "keep":
            return Unreadable(code=refusal.code, detail=refusal.detail, original=line)
        return Unreadable(code=refusal.code, detail=UNREADABLE_DETAIL, original=fingerprint(line))


def admission_of(session: Session, source: str, entries: Sequence[Entry]) -> Admission:
    """The rules for these entries."""
    names = {each.read.session_id for each in entries if not isinstance(each.read, Refusal)}
    key_of = {name: session_key(source, name) for name in names}  # hashed once, not for each event
    unreadable = [each.line for each in entries if isinstance(each.read, Refusal)]
    named = {session_tombstone(key) for key in key_of.values()}
    named.update(id_ for line in unreadable for id_ in tombstones_in(source, line))
    forgotten = load_forgotten(session, named)
    gone = {name for name, key in key_of.items() if forgotten.has_session(key)}
    return Admission(source, redaction_of(session, source), forgotten, gone)
