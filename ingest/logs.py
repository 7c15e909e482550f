"""Where the log lines of our processes go, and how they look.

Guaranteed: a line that can't be written, for the disk is full or the terminal gone, is lost, and
whoever logged goes on.
"""

from contextlib import suppress
from typing import TextIO, cast

import structlog


def log_to(stream: TextIO) -> None:
    """Send structlog's lines to a stream: colour on a terminal only, traces without variables.

    A trace that shows variables, structlog's default, would show keys and what people typed.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=True),
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(stream))),
    )


class _Unfailing:
    """As much of a stream as a logger needs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()
