"""The event log: what was acknowledged, in order, until it is rows.

`interface.py` says what a log is; `embedded.py` is the one in a file, `kafka/` the one on brokers.
`open_log` chooses.
"""

from ingest.log.embedded import EmbeddedLog
from ingest.log.interface import (
    EventLog,
    LogReader,
    LogRecord,
    LogUnavailable,
    NewRecord,
    ReaderEnded,
)
from ingest.settings import Settings

__all__ = [
    "EventLog",
    "LogReader",
    "LogRecord",
    "LogUnavailable",
    "NewRecord",
    "ReaderEnded",
    "open_log",
]


def open_log(settings: Settings) -> EventLog:
    """Open the log that the settings name, making it where there is none yet.

    Raises LogUnavailable.
    """
    if settings.kafka is None:
        return EmbeddedLog(settings.event_log_path, num_partitions=settings.num_partitions)
    from ingest.log.kafka.log import open_kafka_log  # noqa: PLC0415  (0.2 s that one machine saves)

    return open_kafka_log(settings, settings.kafka)
