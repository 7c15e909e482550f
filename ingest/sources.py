"""Sources: who sends, whether anybody may learn from it, and what is redacted in it.

In: a source's name. Out: it is released, or quarantined: received, stored and replayed, in no
slice, and nobody is judged by it. Guaranteed: what is not known to be released is quarantined;
releasing and withdrawing are revisions of the buffer, so a run takes them over at its next
adoption, recorded like any other.

Decision: an installation's first source is released with its key, for somebody who tries Stovetop
out has nobody to be protected from. Each later one waits, so that a production that is wrong, or a
key that was stolen, costs no checkpoint.
"""

import time
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from ingest.buffer import lock_buffer, new_revision
from ingest.database import take_turn
from ingest.redaction import Redaction
from ingest.tables import ApiKey, Sample, Source


def introduce(session: Session, name: str, *, is_trusted: bool = False) -> Source:
    """Make a source known, if it is not; a trusted one is released, and so is the first of all."""
    take_turn(session, "sources")
    source = session.get(Source, name)
    if source is None:
        source = Source(name=name, created_at=time.time())
        if is_trusted or _is_first(session, name):
            source.released_at, source.released_revision = source.created_at, 0
        session.add(source)
        session.flush()
    elif is_trusted:
        release(session, name)
    return source


def release(session: Session, name: str) -> Source:
    """Let slices have a source's samples from now on. Raises LookupError."""
    source = _locked(session, name)
    if source.released_revision is None:
        now = time.time()
        lock_buffer(session)
        count = _num_live(session, name)
        revision = new_revision(session, "released", added=count, retired=0, now=now)
        source.released_at, source.released_revision = now, revision
        session.flush()
    return source


def withdraw(session: Session, name: str) -> Source:
    """Take a source's samples out of all slices, those of earlier revisions too.

    Raises LookupError.
    """
    source = _locked(session, name)
    if source.released_revision is not None:
        lock_buffer(session)
        count = _num_live(session, name)
        new_revision(session, "withdrawn", added=0, retired=count, now=time.time())
        source.released_at = source.released_revision = None
        session.flush()
    return source


def redact(session: Session, name: str, redaction: Redaction) -> Source:
    """Redact what a source sends from now on. Raises LookupError."""
    source = _locked(session, name)
    source.redaction = redaction
    session.flush()
    return source


def redaction_of(session: Session, name: str) -> Redaction:
    """How a source is redacted; one that nobody knows yet is not."""
    found = session.scalar(select(Source.redaction).where(Source.name == name))
    return cast(Redaction, found or "keep")


def is_released(revision: int) -> ColumnElement[bool]:
    """Of samples whose source was released by that revision, and has not been withdrawn since."""
    return Sample.source.in_(select(Source.name).where(Source.released_revision <= revision))


def released() -> Select[Any]:
    """The names of the sources that are released now."""
    return select(Source.name).where(Source.released_revision.is_not(None))


def _locked(session: Session, name: str) -> Source:
    take_turn(session, "sources")
    source = session.get(Source, name)
    if source is None:
        raise LookupError(f"there is no source {name!r}")
    return source


def _is_first(session: Session, name: str) -> bool:
    """Whether no other source has ever had a key to send with."""
    others = ApiKey.kind == "key", ApiKey.role == "ingest", ApiKey.source != name
    return session.scalar(select(ApiKey.key_id).where(*others).limit(1)) is None


def _num_live(session: Session, name: str) -> int:
    count = select(func.count()).where(Sample.source == name, Sample.retired_revision.is_(None))
    return session.scalar(count) or 0
