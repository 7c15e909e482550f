"""Where the log lines of our processes go, and how they look."""

from typing import TextIO

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
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
