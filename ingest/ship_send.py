"""Lines of log files to the server, and the tally of its verdicts.

In: numbered lines of one file. Out: `POST /v1/logs/neuralos`, counts, a report for each line that
did not become an event.
Guaranteed: `send` returns True only when every line has a verdict; lines too large for the server
are rejected with their number, whether its limit is known here or learned from a 413.
Decision: an answer that time can cure is waited for, 60 s unless following; any other ends the
call (`ShipError`), because the next lines would get it, too.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ingest.client.transport import Answer, Refused, Transport
from ingest.ship_lines import MAX_LINE_BYTES, Line

TOO_LARGE = 413
MAX_REPORTS = 10_000
T = TypeVar("T")


class ShipError(Exception):
    """Shipping cannot go on; what was acknowledged is kept, the same call goes on from there."""


@dataclass(frozen=True)
class LineReport:
    """A line that did not become an event; `line` counts from 1 (0: the whole file)."""

    file: Path
    line: int
    code: str
    detail: str


@dataclass(frozen=True)
class Progress:
    """How far a call is; `reports` are new since the one before, `setback` says why it waits.

    `torn` lines (cut or run into one another by a crash) are not among the `rejected`.
    """

    done_bytes: int = 0
    total_bytes: int = 0
    sent: int = 0
    duplicate: int = 0
    rejected: int = 0
    torn: int = 0
    reports: tuple[LineReport, ...] = ()
    setback: str | None = None


class LogSender:
    """Asks the server for verdicts, one request at a time, and tells `progress` of them."""

    def __init__(
        self,
        transport: Transport,
        *,
        stop: threading.Event,
        patience_s: float,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._transport = transport
        self._stop = stop
        self._patience_s = patience_s
        self._progress = progress
        self._asked_at = 0.0
        self.tally = Progress()
        self.reports: list[LineReport] = []

    def server(self) -> str | None:
        """Which installation answers, and to which source; None where `stop` came first.

        Raises ShipError.
        """
        try:
            return self._ask("/v1/instance", None, _read_identity)
        except Refused as refused:
            raise _ship_error(refused.answer) from refused

    def send(self, path: Path, lines: list[Line]) -> bool:
        """Get a verdict on each line; False where `stop` came first. Raises ShipError."""
        fitting = [line for line in lines if not line.is_too_long]
        if fitting and not self._send_fitting(path, fitting):
            return False
        for line in lines:
            if line.is_too_long:
                self._reject(path, line, f"{line.num_bytes} bytes, at most {MAX_LINE_BYTES}")
        return True

    def tell(self, *reports: LineReport, setback: str | None = None, **added: int) -> None:
        """Add to the tally and say so."""
        counts = {name: getattr(self.tally, name) + number for name, number in added.items()}
        self.tally = replace(self.tally, reports=reports, setback=setback, **counts)
        self.reports.extend(reports[: MAX_REPORTS - len(self.reports)])
        if self._progress:
            self._progress(self.tally)

    def _send_fitting(self, path: Path, lines: list[Line]) -> bool:
        body = b"\n".join(line.content for line in lines)
        read = partial(Answer.verdicts, num_lines=len(lines))
        try:
            verdicts = self._ask("/v1/logs/neuralos", body, read)
        except Refused as refused:
            if refused.answer.status != TOO_LARGE:
                raise _ship_error(refused.answer) from refused
            return self._send_halves(path, lines, _detail(refused.answer))
        if verdicts is None:
            return False
        reports = [
            LineReport(path, lines[index].number, code, detail)
            for index, (code, detail) in sorted(verdicts.rejected.items())
        ]
        num_torn = sum(report.code == "torn" for report in reports)
        self.tell(
            *reports,
            sent=verdicts.accepted,
            duplicate=verdicts.duplicate,
            rejected=len(reports) - num_torn,
            torn=num_torn,
        )
        return True

    def _send_halves(self, path: Path, lines: list[Line], detail: str) -> bool:
        """After a 413, whose limit may be on lines or on bytes: find what does fit."""
        if len(lines) == 1:
            self._reject(path, lines[0], detail)
            return True
        halves = lines[: len(lines) // 2], lines[len(lines) // 2 :]
        return all(self._send_fitting(path, half) for half in halves)

    def _reject(self, path: Path, line: Line, detail: str) -> None:
        self.tell(LineReport(path, line.number, "too_large", f"line: {detail}"), rejected=1)

    def _ask(self, path: str, body: bytes | None, read: Callable[[Answer], T | None]) -> T | None:
        self._asked_at = time.monotonic()
        return self._transport.ask(path, body, read, self._pause)

    def _pause(self, reason: str, seconds: float, server_asked: bool) -> bool:
        if time.monotonic() - self._asked_at > self._patience_s:
            raise ShipError(
                f"the server gave no verdict for {self._patience_s:.0f} s ({reason}); "
                "start the same command again once it is back, it goes on from here"
            )
        by_whom = " as the server asked" if server_asked else ""
        self.tell(setback=f"{reason}; next attempt in {seconds:.1f} s{by_whom}")
        return not self._stop.wait(seconds)


def _read_identity(answer: Answer) -> str | None:
    """The instance and the key's source: under another source, the same line is another event."""
    if answer.status != 200:
        return None
    try:
        fields = json.loads(answer.body)
        return f"{fields['instance_id']} {fields['source']}"
    except (ValueError, TypeError, KeyError):
        return None


def _detail(answer: Answer) -> str:
    """What a problem+json says, or the beginning of whatever came."""
    try:
        return str(json.loads(answer.body)["detail"])
    except (ValueError, TypeError, KeyError):
        return answer.body[:200].decode(errors="replace")


def _ship_error(answer: Answer) -> ShipError:
    return ShipError(f"the server refuses (HTTP {answer.status}): {_detail(answer)}")
