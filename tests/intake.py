"""One installation's way in, within the test's own process: endpoint, log, consumer, rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Engine, func, select

from ingest.consume import Consumer
from ingest.database import read
from ingest.log import EventLog
from ingest.settings import Settings
from ingest.tables import Base, DeadLetter, Episode, EventRow, SessionRow

SAMPLES = Path(__file__).parent / "samples"
# The clean ones, which the demo ships.
LOGS = Path(__file__).parents[1] / "control_api" / "demo" / "logs"
START = 1_754_600_000.0
Row = TypeVar("Row", bound=Base)


def wire_event(number: int, session_id: str = "s-1", **changed: object) -> dict[str, object]:
    """An action on the wire, a quarter second after the one before it."""
    return {
        "event_id": f"{session_id}-{number}",
        "session_id": session_id,
        "sequence": number,
        "timestamp": START + number / 4,
        "kind": "action",
        "payload": {"x": number, "y": 60},
    } | changed


@dataclass(frozen=True)
class Intake:
    """What a test needs of one installation; `client` carries a key for the source `demo`."""

    settings: Settings
    engine: Engine
    event_log: EventLog
    client: TestClient

    def post(self, *events: object) -> Response:
        """Send wire events as a JSON array."""
        body = orjson.dumps(events)
        return self.client.post(
            "/v1/events", content=body, headers={"Content-Type": "application/json"}
        )

    def post_log(self, lines: bytes) -> Response:
        """Send lines of the demo's log as they are."""
        return self.client.post(
            "/v1/logs/neuralos", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )

    def consume(self) -> None:
        """Bring all that the log holds to rows, and cut it."""
        with Consumer(self.engine, self.event_log, self.settings) as consumer:
            consumer.drain()

    def take(self, *events: object) -> None:
        """Send wire events, all of them good, and bring them to rows."""
        answer = self.post(*events)
        assert answer.status_code == 202, answer.text
        assert answer.json()["rejected"] == []
        self.consume()

    def rows(self, table: type[Row], *order: str) -> list[Row]:
        """All rows of a table, in the order of the named columns."""
        with read(self.engine) as session:
            columns = [getattr(table, name) for name in order]
            return list(session.scalars(select(table).order_by(*columns)))

    def num_events(self) -> int:
        """How many events are stored by now."""
        with read(self.engine) as session:
            return session.scalar(select(func.count()).select_from(EventRow)) or 0

    def events(self) -> list[EventRow]:
        """All events in the order in which they were stored."""
        return self.rows(EventRow, "number")

    def sessions(self) -> list[SessionRow]:
        """All sessions."""
        return self.rows(SessionRow, "first_timestamp")

    def episodes(self) -> list[Episode]:
        """All episodes that are not superseded, in order."""
        episodes = self.rows(Episode, "first_timestamp", "ordinal")
        return [episode for episode in episodes if episode.state != "superseded"]

    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters."""
        return self.rows(DeadLetter, "received_at")


def dirty_log(number: int) -> bytes:
    """The content of one of the ten damaged logs, by the counter in its name."""
    [path] = (SAMPLES / "neuralos_logs_dirty").glob(f"session_*_{number}.jsonl")
    return path.read_bytes()


def clean_logs() -> Sequence[Path]:
    """The undamaged logs, oldest first."""
    return sorted(LOGS.iterdir())
