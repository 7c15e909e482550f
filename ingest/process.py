"""How every process of ours begins: where its log lines go, and that it ends when asked to."""

import gc
import signal
import sys
import threading

from ingest.logs import log_to
from ingest.pulse import PulsingEvent
from ingest.settings import Settings


def begin_process(settings: Settings) -> threading.Event:
    """Log to stdout; the event is set by SIGTERM or SIGINT. Call it from the main thread."""
    log_to(sys.stdout)
    stop = PulsingEvent(settings.pulse) if settings.pulse else threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def look_rarely_for_garbage() -> None:
    """Let the collector pass over what is imported, and look once in 50,000 new objects.

    A batch of 500 events is thousands of them, none in a cycle: by default the collector would go
    through all of the process's objects again and again, a sixth of a consumer's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
