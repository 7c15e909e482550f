"""Tombstones: who is forgotten, as hashes, and what may not come in for it.

In: identities, and what arrives. Out: tombstones, and what of an arrival is not forgotten.
Guaranteed: a tombstone names nobody: its id is a hash of the source and the user's or the session's
own id. Nothing that came for a user before they were forgotten comes in again, be it from the log,
from a shipper or from a backup, and nothing of a forgotten session ever does.

Decision: a user who comes back is a new visitor, so what is received later counts again, but for
the visits that were forgotten: half of a visit would be replayed to a screen that never was.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.database import is_among
from ingest.events import session_key
from ingest.ids import content_id
from ingest.tables import ForgottenSample, Tombstone

Noun = Literal["user", "session"]
# One who forgets and those who bring things in: these share their turn.
TURN = "forgetting"

_SESSION_FIELDS = ("session_id", "client_id")
_NAMED = re.compile(rb'"(session_id|client_id|user_id)"\s*:\s*"([^"\\]{1,128})"')


@dataclass(frozen=True, slots=True)
class Identity:
    """A user or a session of a source."""

    noun: Noun
    source: str
    name: str

    @property
    def tombstone_id(self) -> str:
        """The hash that it is remembered by."""
        if self.noun == "user":
            return user_tombstone(self.source, self.name)
        return session_tombstone(session_key(self.source, self.name))


def user_tombstone(source: str, user_id: str) -> str:
    """The tombstone's id of a user."""
    return content_id("forgotten user", source, user_id)


def session_tombstone(key: str) -> str:
    """The tombstone's id of a session, by its key."""
    return content_id("forgotten session", key)


class Forgotten:
    """Tombstones that are known, and until when each holds: seconds, or for ever."""

    def __init__(self, until: Mapping[str, float]) -> None:
        self._until = dict(until)

    def __len__(self) -> int:
        return len(self._until)

    @property
    def ids(self) -> Collection[str]:
        """All of them."""
        return self._until.keys()

    def has_session(self, key: str) -> bool:
        """Whether a session, by its key, is forgotten."""
        return session_tombstone(key) in self._until

    def has_user(self, source: str, user_id: str | None, received_at: float) -> bool:
        """Whether what was received then is of a user who was forgotten later."""
        if user_id is None:
            return False
        return received_at <= self._until.get(user_tombstone(source, user_id), -1.0)

    def has_original(self, source: str, original: bytes, received_at: float) -> bool:
        """Whether bytes that could not be read name somebody who is forgotten."""
        sessions, users = _named_in(original)
        return any(self.has_session(session_key(source, name)) for name in sessions) or any(
            self.has_user(source, name, received_at) for name in users
        )

    def add_session(self, key: str) -> bool:
        """Know one more; False where it was known."""
        tombstone_id = session_tombstone(key)
        is_new = tombstone_id not in self._until
        self._until[tombstone_id] = float("inf")
        return is_new


def load_forgotten(session: Session, ids: Iterable[str]) -> Forgotten:
    """Those of these ids that are tombstones."""
    rows = session.execute(
        select(Tombstone.tombstone_id, Tombstone.forgotten_at).where(
            is_among(session, Tombstone.tombstone_id, set(ids))
        )
    )
    return Forgotten({row.tombstone_id: row.forgotten_at for row in rows})


def forgotten_samples(session: Session, numbers: Collection[int]) -> set[int]:
    """Those of these sample numbers that are forgotten."""
    query = select(ForgottenSample.sample_number)
    return set(session.scalars(query.where(ForgottenSample.sample_number.in_(numbers))))


def tombstones_in(source: str, original: bytes) -> list[str]:
    """The tombstones that bytes which could not be read would fall under."""
    sessions, users = _named_in(original)
    return [
        *(session_tombstone(session_key(source, name)) for name in sessions),
        *(user_tombstone(source, name) for name in users),
    ]


def _named_in(original: bytes) -> tuple[Sequence[str], Sequence[str]]:
    """The sessions and users that bytes name: by their fields, and where torn by their looks."""
    try:
        value = orjson.loads(original)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        sessions = [value.get(name) for name in _SESSION_FIELDS]
        users = [value.get("user_id")]
        return _texts(sessions), _texts(users)
    named = [(name, found.decode(errors="replace")) for name, found in _NAMED.findall(original)]
    return (
        [found for name, found in named if name != b"user_id"],
        [found for name, found in named if name == b"user_id"],
    )


def _texts(values: Iterable[object]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
