"""What must be so after every round, whatever was killed: `violations` names all that is not.

In: a ledger, and the database and files of an installation at rest. Guaranteed of an installation
without a violation: what was acknowledged is in the buffer once or in the dead letters once, as it
was sent; what was not is there at most once; episodes are what the rules make of the events, each
replayed, with a sample an action; every place that the index knows holds its own sample's bytes;
nothing is left behind that nobody needs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ingest.buffer import DOCUMENT, FRAME, sample_key
from ingest.database import read
from ingest.ids import content_id
from ingest.sessions import SessionEvent, cut
from ingest.shard_store import open_store
from ingest.shards import CorruptShardError, read_span, split_members, verify
from ingest.tables import DeadLetter, Episode, EventRow, Placement, Sample, SessionRow, Shard
from tests.crashes.installation import Installation
from tests.crashes.ledger import Ledger

BLOCK = 512


@dataclass(frozen=True)
class Judgement:
    """All that is wrong, and how many acknowledged things were lost, or kept twice."""

    violations: Sequence[str]
    num_lost: int
    num_doubled: int


def judge(installation: Installation, ledger: Ledger) -> Judgement:
    """Look at everything; the installation must be at rest."""
    with read(installation.engine) as session:
        lost, doubled = _kept(session, ledger)
        found = [
            *(f"lost: {each}" for each in lost),
            *(f"doubled: {each}" for each in doubled),
            *_as_sent(session, ledger),
            *_sessions(session),
            *_episodes(session, installation),
            *_samples(session),
            *_places(session, installation),
        ]
    return Judgement(found, len(lost), len(doubled))


def _kept(session: Session, ledger: Ledger) -> tuple[list[str], list[str]]:
    events = Counter(session.scalars(select(EventRow.event_id)))
    letters = Counter(
        (code, bytes(original))
        for code, original in session.execute(select(DeadLetter.code, DeadLetter.original))
    )
    lost = [event_id for event_id in ledger.promised if event_id not in events]
    lost += [repr(letter) for letter in ledger.promised_letters if letter not in letters]
    doubled = [event_id for event_id, count in events.items() if count > 1]
    doubled += [repr(letter) for letter, count in letters.items() if count > 1]
    return lost, doubled


def _as_sent(session: Session, ledger: Ledger) -> Iterator[str]:
    for event_id, digest in session.execute(select(EventRow.event_id, EventRow.digest)):
        sent = ledger.possible.get(event_id, set())
        if digest != ledger.promised.get(event_id) and digest not in sent:
            yield f"event {event_id} is not what was sent under that id, or nobody sent it"
    known = ledger.promised_letters | ledger.possible_letters
    for code, original in session.execute(select(DeadLetter.code, DeadLetter.original)):
        if (code, bytes(original)) not in known:
            yield f"dead letter {code} {bytes(original)[:200]!r} is nothing that was sent"


def _sessions(session: Session) -> Iterator[str]:
    counted = select(EventRow.session_key, func.count()).group_by(EventRow.session_key)
    events = dict(session.execute(counted).all())
    for row in session.scalars(select(SessionRow)):
        if row.num_events != events.get(row.session_key):
            yield f"session {row.session_id}: {row.num_events} events are counted, not stored"
        if row.needs_cut:
            yield f"session {row.session_id} was not cut"


def _episodes(session: Session, installation: Installation) -> Iterator[str]:
    """The rows against what the rules make of the events, anew."""
    settings = installation.settings
    events: defaultdict[str, list[EventRow]] = defaultdict(list)
    for event in session.scalars(select(EventRow)):
        events[event.session_key].append(event)
    rows: defaultdict[str, dict[str, Episode]] = defaultdict(dict)
    for episode in session.scalars(select(Episode).where(Episode.state != "superseded")):
        rows[episode.session_key][episode.episode_id] = episode
    for owner in session.scalars(select(SessionRow)):
        own = events[owner.session_key]
        facts = [SessionEvent(e.number, e.event_id, e.kind, e.sequence, e.timestamp) for e in own]
        pieces = cut(
            facts, idle_s=settings.session_idle_s, max_actions=settings.max_episode_actions
        )
        wanted = {
            content_id(owner.source, owner.session_id, piece.actions[0].event_id): (
                "replayed",
                piece.digest,
                len(piece.actions),
            )
            for piece in pieces
        }
        for event in own:
            if event.kind == "document":
                key = content_id(owner.source, owner.session_id, event.event_id)
                wanted[key] = ("placed", content_id("", event.event_id), 0)
        found = {
            key: (episode.state, episode.digest, episode.num_actions)
            for key, episode in rows[owner.session_key].items()
        }
        if found != wanted:
            yield f"session {owner.session_id}: episodes {found}, not {wanted}"


def _samples(session: Session) -> Iterator[str]:
    live: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    rows = select(Sample.episode_id, Sample.episode_version, Sample.position)
    for episode_id, version, position in session.execute(
        rows.where(Sample.retired_revision.is_(None))
    ):
        live[episode_id].append((version, position))
    for episode in session.scalars(select(Episode)):
        count = {"superseded": 0, "placed": 1}.get(episode.state, episode.num_actions)
        wanted = [(episode.version, position) for position in range(count)]
        if sorted(live.pop(episode.episode_id, [])) != wanted:
            yield f"episode {episode.episode_id}: its live samples are not {wanted}"
    yield from (f"samples of no episode: {episode_id}" for episode_id in live)


def _places(session: Session, installation: Installation) -> Iterator[str]:
    store = open_store(installation.settings)
    shards = {shard.shard_id: shard for shard in session.scalars(select(Shard))}
    for shard in shards.values():
        try:
            verify(store.local(shard.path), shard.checksum)
        except (OSError, CorruptShardError) as error:
            yield f"shard {shard.shard_id}: {error}"
        if shard.state != "live":
            yield f"shard {shard.shard_id} is {shard.state}"
    represented: defaultdict[int, set[str]] = defaultdict(set)
    for sample, place in session.execute(
        select(Sample, Placement).join(Placement, Placement.sample_number == Sample.number)
    ):
        represented[sample.number].add(place.representation.partition(":")[0])
        path = store.local(shards[place.shard_id].path)
        key = sample_key(sample.episode_id, sample.episode_version, sample.position)
        try:
            data = read_span(path, place.offset, place.length)
            split_members(data)
        except (OSError, CorruptShardError) as error:
            yield f"sample {key}: {error}"
            continue
        name = data[:100].rstrip(b"\0").decode()
        if name.partition(".")[0] != key:
            yield f"sample {key}: at its place lies {name}"
    for sample in session.scalars(select(Sample).where(Sample.retired_revision.is_(None))):
        wanted = {DOCUMENT} if sample.environment.startswith("text") else {FRAME}
        if wanted == {FRAME} and sample.split == "train":
            wanted.add("latent")
        if represented[sample.number] != wanted:
            yield f"sample {sample.number} is there as {represented[sample.number]}, not {wanted}"
