"""How every process of ours begins: where its log lines go, and that it ends when asked to."""

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
