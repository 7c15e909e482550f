"""Log files for tests of the shipper, and what became of their lines."""

import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from ingest.consume import Consumer
from ingest.database import read
from ingest.tables import DeadLetter, EventRow
from tests.serving import Ingesting

SAMPLES = Path(__file__).parent / "samples"
CLEAN = Path(__file__).parents[1] / "control_api" / "demo" / "logs"
DIRTY = SAMPLES / "neuralos_logs_dirty"
INPUTS = {"x": 66, "y": 60, "is_left_click": True, "is_right_click": False}


def log_lines(session_id: str, start: int, stop: int) -> list[str]:
    """Lines of one session as the deployed worker writes them, a second apart."""
    return [
        json.dumps(
            {
                "timestamp": 1_754_600_000.0 + second,
                "session_id": session_id,
                "is_eos": False,
                "is_reset": False,
                "inputs": INPUTS,
            }
        )
        for second in range(start, stop)
    ]


def append(path: Path, lines: Sequence[str], end: str = "\n") -> Path:
    """Add whole lines to a log; `end` is what follows the last one."""
    with path.open("a") as file:
        file.write("\n".join(lines) + end)
    return path


def num_lines(*folders: Path) -> int:
    """Physical lines that are not blank, an unterminated last one included."""
    files = [file for folder in folders for file in folder.glob("session_*.jsonl")]
    return sum(bool(line.strip()) for file in files for line in file.read_bytes().split(b"\n"))


def stored(server: Ingesting) -> list[tuple[str, float]]:
    """Session and time of every event row, once the log is consumed."""
    with Consumer(server.engine, server.event_log, server.settings) as consumer:
        consumer.drain()
    with read(server.engine) as session:
        keys = session.scalars(select(EventRow).order_by(EventRow.timestamp))
        return [(row.session_key, row.timestamp) for row in keys]


def num_dead_letters(server: Ingesting) -> int:
    """How many lines the consumer laid aside."""
    with read(server.engine) as session:
        return len(session.scalars(select(DeadLetter)).all())
