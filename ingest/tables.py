"""The tables of data in: keys, sources, sessions, events, episodes, samples, shards, slices.

Times are seconds since 1970 in UTC, as float. Texts that hold JSON are named `*_json`.
"""

from typing import Any, ClassVar

from sqlalchemy import ForeignKey, Index, LargeBinary, MetaData, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ingest.database.types import Number, Text, WholeNumber

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# An event that is to be placed. As text, not with bound values: only so does an engine see that the
# partial index on it will do.
IS_WAITING_DOCUMENT = text("kind = 'document' AND episode_id IS NULL")


class Base(DeclarativeBase):
    """All tables of Stovetop, with constraints named for Alembic."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {int: WholeNumber, float: Number, str: Text}


class Instance(Base):
    """This installation: one row; a shipper's cursor belongs to it."""

    __tablename__ = "instance"
    instance_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]


class Counter(Base):
    """A named number that grows in commit order (`database.next_number`)."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class ApiKey(Base):
    """A key: only its SHA-256 is kept; `source` names what its events belong to.

    The last three are what its commands are held to, see `keys.Limits`.
    """

    __tablename__ = "api_keys"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    kind: Mapped[str]  # key, link or browser, see `keys.Kind`
    role: Mapped[str]
    source: Mapped[str]
    parent_id: Mapped[str | None]  # of a browser session: the key that signed in
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    last_used_at: Mapped[float | None]  # exact to a minute
    max_lr_factor: Mapped[float | None]
    max_commands: Mapped[int | None]  # a run
    needs_approval: Mapped[bool]


class Source(Base):
    """Who sends: what the events of a key belong to. Nobody learns from it before it is released.

    Both of `released` are None while it is quarantined.
    """

    __tablename__ = "sources"
    name: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]
    released_at: Mapped[float | None]
    released_revision: Mapped[int | None]  # of the buffer, from which on slices have its samples
    redaction: Mapped[str] = mapped_column(default="keep")  # keep, mask, drop; see `redaction`


class AuditEntry(Base):
    """Somebody changed something, written in the transaction of the change; never changed itself.

    Numbers grow, but on PostgreSQL a smaller one may be committed after a larger one: nobody
    follows this table by number.
    """

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    actor: Mapped[str]
    address: Mapped[str]
    request_id: Mapped[str | None]
    action: Mapped[str]
    subject: Mapped[str]
    detail_json: Mapped[str]


class LogOffset(Base):
    """The next offset to consume, advanced in the transaction of the rows made from before it."""

    __tablename__ = "log_offsets"
    log_id: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True)
    next_offset: Mapped[int]


class SessionRow(Base):
    """One visit. `split` (`train` or `eval`) never changes once the session is seen."""

    __tablename__ = "sessions"
    session_key: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    session_id: Mapped[str]
    user_id: Mapped[str | None]
    split: Mapped[str]
    first_timestamp: Mapped[float]
    last_timestamp: Mapped[float]
    received_at: Mapped[float]  # of its newest event; wall clock
    num_events: Mapped[int]
    needs_cut: Mapped[bool]  # events came since its episodes were last cut
    __table_args__ = (
        UniqueConstraint("source", "session_id"),
        Index(None, "needs_cut", "received_at"),
    )


class EventRow(Base):
    """One acknowledged event; identity is (source, event_id)."""

    __tablename__ = "events"
    number: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str]
    event_id: Mapped[str]
    session_key: Mapped[str] = mapped_column(ForeignKey("sessions.session_key"))
    kind: Mapped[str]
    sequence: Mapped[int | None]
    timestamp: Mapped[float]
    payload_json: Mapped[str]
    model: Mapped[str | None]
    frame: Mapped[str | None]
    digest: Mapped[str]  # of the content: tells a retry from a conflict
    received_at: Mapped[float]
    episode_id: Mapped[str | None]  # set when the session is cut
    position: Mapped[int | None]  # an action's place in its episode, 0, 1, 2 ...
    __table_args__ = (
        UniqueConstraint("source", "event_id"),
        Index(None, "session_key"),
        Index(None, "episode_id", "position"),
        Index(
            "ix_events_waiting_documents",
            "kind",
            "episode_id",
            "number",
            sqlite_where=IS_WAITING_DOCUMENT,
            postgresql_where=IS_WAITING_DOCUMENT,
        ),
    )


class DeadLetter(Base):
    """What could not become an event: the reason and the original bytes."""

    __tablename__ = "dead_letters"
    dead_letter_id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    code: Mapped[str]
    detail: Mapped[str]
    original: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[float] = mapped_column(index=True)


class Tombstone(Base):
    """A user or a session that is forgotten; it keeps what was sent before from coming back.

    Its id is a hash of who that was. A user's sessions have one each, `of_user` names theirs.
    """

    __tablename__ = "tombstones"
    tombstone_id: Mapped[str] = mapped_column(primary_key=True)
    of_user: Mapped[str | None] = mapped_column(index=True)
    forgotten_at: Mapped[float]
    finished_at: Mapped[float | None]


class ForgottenSample(Base):
    """The number of a sample that is gone, which is what the draw logs of runs know it by."""

    __tablename__ = "forgotten_samples"
    sample_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tombstone_id: Mapped[str] = mapped_column(index=True)  # of its session


class Episode(Base):
    """A session's part between resets, the unit of replay; or one document, without actions.

    state: open (may still grow), waiting, leased, replayed, parked (failed 3 times), superseded;
    placed: a document, which nothing replays.
    """

    __tablename__ = "episodes"
    episode_id: Mapped[str] = mapped_column(primary_key=True)
    session_key: Mapped[str] = mapped_column(ForeignKey("sessions.session_key"), index=True)
    ordinal: Mapped[int]
    version: Mapped[int]  # grows whenever its events, or what a replay of them gives, change
    digest: Mapped[str]  # of its event ids in order
    num_actions: Mapped[int]
    num_unrecorded: Mapped[int]  # actions of the earlier part of a long one, replayed first
    first_timestamp: Mapped[float]
    last_timestamp: Mapped[float]
    num_auto: Mapped[int]  # timer-made actions
    state: Mapped[str]
    attempts: Mapped[int]
    lease_holder: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    error: Mapped[str | None]
    environment: Mapped[str | None]  # name/version of the desktop that replayed it, or "text/1"
    tasks: Mapped[str]  # " open_browser create_folder ": space-separated, spaces around
    num_stuck_keys: Mapped[int]
    replayed_version: Mapped[int | None]
    replayed_at: Mapped[float | None]
    __table_args__ = (Index(None, "state", "lease_expires_at"),)


class Sample(Base):
    """The smallest thing a trainer draws: a frame with the action before it, or a document."""

    __tablename__ = "samples"
    number: Mapped[int] = mapped_column(primary_key=True)
    episode_id: Mapped[str] = mapped_column(ForeignKey("episodes.episode_id"))
    episode_version: Mapped[int]
    position: Mapped[int]
    event_number: Mapped[int] = mapped_column(ForeignKey("events.number"), index=True)
    session_key: Mapped[str]
    source: Mapped[str]
    user_id: Mapped[str | None]
    split: Mapped[str]
    timestamp: Mapped[float]
    environment: Mapped[str]
    tasks: Mapped[str]  # its episode's, as there
    changes: Mapped[str]  # " window_opened:browser ": labels of this very step
    ticks_since_change: Mapped[int | None]  # 0 on a structural change; None before the first
    is_auto: Mapped[bool]
    added_revision: Mapped[int] = mapped_column(index=True)
    retired_revision: Mapped[int | None] = mapped_column(index=True)
    __table_args__ = (UniqueConstraint("episode_id", "episode_version", "position"),)


class Revision(Base):
    """One change of the buffer: 1, 2, 3 ... in commit order."""

    __tablename__ = "revisions"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # replayed, superseded, placed, encoded, quarantined, repaired, released, withdrawn, forgotten
    kind: Mapped[str]
    created_at: Mapped[float]
    num_added: Mapped[int]
    num_retired: Mapped[int]


class Shard(Base):
    """An immutable WebDataset tar; `path` is relative to the shards folder."""

    __tablename__ = "shards"
    shard_id: Mapped[str] = mapped_column(primary_key=True)
    representation: Mapped[str]  # "frame", "latent:<encoder hash>" or "document"
    path: Mapped[str]
    num_bytes: Mapped[int]
    num_samples: Mapped[int]
    checksum: Mapped[str]  # blake3 of the file
    created_at: Mapped[float]
    state: Mapped[str]  # live, quarantined, gone; see `buffer`
    lease_holder: Mapped[str | None]  # who derives another shard from it, see `leases`
    lease_expires_at: Mapped[float | None]


class Placement(Base):
    """Where one sample's bytes lie in one representation."""

    __tablename__ = "placements"
    sample_number: Mapped[int] = mapped_column(ForeignKey("samples.number"), primary_key=True)
    representation: Mapped[str] = mapped_column(primary_key=True)
    shard_id: Mapped[str] = mapped_column(ForeignKey("shards.shard_id"), index=True)
    offset: Mapped[int]
    length: Mapped[int]
    added_revision: Mapped[int]
    __table_args__ = (Index(None, "representation", "added_revision"),)


class Slice(Base):
    """A named, saved filter over the buffer."""

    __tablename__ = "slices"
    name: Mapped[str] = mapped_column(primary_key=True)
    filter: Mapped[str]
    max_share_per_user: Mapped[float]  # of its draws, 0..1; a session where there is no user
    max_uses: Mapped[int | None]  # per sample and run
    created_at: Mapped[float]
    created_by: Mapped[str]


class Mix(Base):
    """Shares over slices; an edit makes the next version."""

    __tablename__ = "mixes"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    shares_json: Mapped[str]  # {slice: share}, shares sum to 1
    created_at: Mapped[float]
    created_by: Mapped[str]
