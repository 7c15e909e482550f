"""What cutting one session would change, found without the write lock.

In: a session's rows as a reader sees them. Out: a `SessionPlan`: its episodes as the rules
(`sessions.py`) cut them, which of them are new or changed, which are no more, and which events
move. Guaranteed: the plan says how many events it has seen, so that `cut.py` can tell whether it
still holds. Decision: payloads are read only for episodes that changed, to count what the replay
worker and the filters want to know beforehand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from ingest.actions import Action
from ingest.ids import content_id
from ingest.keyboard import HeldKeys
from ingest.sessions import CutEpisode, SessionEvent, cut
from ingest.settings import Settings
from ingest.tables import Episode, EventRow, SessionRow

# Of payloads as `events.payload_json` writes them; what else looks like it does no harm.
_COUNTED = ('%"keys_down":["%', '%"keys_up":["%', '%"is_auto_input":true%')
SUPERSEDED = "superseded"
PLACED = "placed"


@dataclass(frozen=True)
class PlannedEpisode:
    """One episode as it should be; the counts are of changed ones only."""

    episode_id: str
    ordinal: int
    piece: CutEpisode
    is_changed: bool
    num_auto: int = 0
    num_stuck_keys: int = 0

    @property
    def state(self) -> str:
        """The state that a new version of it begins in."""
        return "open" if self.piece.is_open else "waiting"


@dataclass(frozen=True)
class SessionPlan:
    """What cutting one session changes; `places` are (episode, position) of events that move."""

    session_key: str
    num_events: int
    episodes: Sequence[PlannedEpisode]
    lost: Sequence[str]
    places: Mapping[int, tuple[str, int]]


def plan_session(session: Session, row: SessionRow, settings: Settings) -> SessionPlan:
    """Cut a session's present events and compare with its episodes' rows."""
    events, present_places = _events(session, row.session_key)
    pieces = cut(events, idle_s=settings.session_idle_s, max_actions=settings.max_episode_actions)
    digests = _known_digests(session, row.session_key)
    episodes = []
    for ordinal, piece in enumerate(pieces):
        episode_id = content_id(row.source, row.session_id, piece.actions[0].event_id)
        is_changed = digests.pop(episode_id, None) != piece.digest
        episodes.append(PlannedEpisode(episode_id, ordinal, piece, is_changed))
    lost = [episode_id for episode_id, digest in digests.items() if digest != SUPERSEDED]
    places = {
        action.number: (planned.episode_id, position)
        for planned in episodes
        for position, action in enumerate(planned.piece.actions)
    }
    moves = {number: place for number, place in places.items() if present_places[number] != place}
    counted = _counted(session, row.session_key, episodes)
    return SessionPlan(row.session_key, row.num_events, counted, lost, moves)


def _events(
    session: Session, session_key: str
) -> tuple[list[SessionEvent], dict[int, tuple[str | None, int | None]]]:
    """A session's events, and the place that each has in an episode by its number."""
    rows = session.execute(
        select(
            EventRow.number,
            EventRow.event_id,
            EventRow.kind,
            EventRow.sequence,
            EventRow.timestamp,
            EventRow.episode_id,
            EventRow.position,
        ).where(EventRow.session_key == session_key)
    )
    events: list[SessionEvent] = []
    places: dict[int, tuple[str | None, int | None]] = {}
    for number, event_id, kind, sequence, timestamp, episode_id, position in rows:
        events.append(SessionEvent(number, event_id, kind, sequence, timestamp))
        places[number] = (episode_id, position)
    return events, places


def _known_digests(session: Session, session_key: str) -> dict[str, str]:
    """Each episode's digest; a superseded one has none that a cut could equal."""
    rows = session.execute(
        select(Episode.episode_id, Episode.state, Episode.digest).where(
            Episode.session_key == session_key, Episode.state != PLACED
        )
    )
    return {row.episode_id: SUPERSEDED if row.state == SUPERSEDED else row.digest for row in rows}


def _counted(
    session: Session, session_key: str, episodes: Sequence[PlannedEpisode]
) -> list[PlannedEpisode]:
    """The episodes with their counts, where a part of the same stretch changed."""
    return [
        counted
        for stretch in _stretches(episodes)
        for counted in (
            _count(stretch, _payloads(session, session_key, stretch))
            if any(planned.is_changed for planned in stretch)
            else stretch
        )
    ]


def _stretches(episodes: Iterable[PlannedEpisode]) -> list[list[PlannedEpisode]]:
    """Parts of one long episode together: a key held in an earlier one is held in the next."""
    stretches: list[list[PlannedEpisode]] = []
    for planned in episodes:
        if planned.piece.num_unrecorded == 0:
            stretches.append([])
        stretches[-1].append(planned)
    return stretches


def _payloads(
    session: Session, session_key: str, stretch: Sequence[PlannedEpisode]
) -> dict[int, dict[str, object]]:
    """The payloads that count: most actions are moves of the pointer, and are not even read."""
    numbers = [action.number for planned in stretch for action in planned.piece.actions]
    rows = session.execute(
        select(EventRow.number, EventRow.payload_json).where(
            EventRow.session_key == session_key,
            EventRow.number.between(min(numbers), max(numbers)),
            or_(*(EventRow.payload_json.like(text) for text in _COUNTED)),
        )
    )
    return {row.number: orjson.loads(row.payload_json) for row in rows}


def _count(
    stretch: Sequence[PlannedEpisode], payloads: Mapping[int, Mapping[str, object]]
) -> list[PlannedEpisode]:
    keys = HeldKeys()
    counted = []
    for planned in stretch:
        num_auto = 0
        for event in planned.piece.actions:
            payload = payloads.get(event.number)
            if payload is None:
                continue
            num_auto += payload.get("is_auto_input") is True
            action = Action.from_payload(payload)
            for key in action.keys_down:
                keys.press(key)
            for key in action.keys_up:
                keys.release(key)
        counted.append(replace(planned, num_auto=num_auto, num_stuck_keys=len(keys.held)))
    return counted
