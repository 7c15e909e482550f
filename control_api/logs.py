"""Where our own log lines go in a command: to stderr, because stdout is data."""

import sys

import structlog


def log_to_stderr() -> None:
    """Send structlog's lines to stderr, in colour on a terminal only."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
