"""Brings all that an installation's log holds to rows, and cuts it: `benchmarks/ingest.py` asks.

`STOVETOP_... python -m benchmarks.ingest_drain` prints one JSON line.
"""

import json
import resource
import time

from sqlalchemy import func, select

from ingest.consume import Consumer
from ingest.database import open_engine, read
from ingest.log import open_log
from ingest.process import look_rarely_for_garbage
from ingest.settings import Settings
from ingest.tables import Episode, EventRow


def main() -> None:
    """Drain, and say how long that took."""
    look_rarely_for_garbage()  # as the consumer's own process does
    settings = Settings()
    engine = open_engine(settings.resolved_database_url)
    with open_log(settings) as log, Consumer(engine, log, settings) as consumer:
        start, cpu_before = time.perf_counter(), time.process_time()
        consumer.drain()
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_before
    with read(engine) as session:
        num_events = session.scalar(select(func.count(EventRow.number))) or 0
        num_episodes = session.scalar(select(func.count(Episode.episode_id))) or 0
    said = {
        "events": num_events,
        "episodes": num_episodes,
        "seconds": round(seconds, 2),
        "events_per_s": round(num_events / seconds),
        "cpu_share": round(cpu_s / seconds, 2),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
