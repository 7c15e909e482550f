"""The log shipper: sends the deployed demo's log files as they are, and follows them as they grow.

In: files, or folders of `session_*.jsonl`. Out: `POST /v1/logs/neuralos`, whole lines of one file a
request; a `ShipResult` whose counts add up to the lines of this call.
Guaranteed: it goes on where it stopped (`ship_cursor`) and the server stores a line once, so a kill
at any moment loses and doubles nothing. Only regular files are read; in a folder, symlinks are left
alone. Blank lines are no lines. An unterminated last line is sent when not following, or when
following ends: until then its rest may come.
Decision: without a verdict from the server for 60 s a call that does not follow gives up; one that
follows waits for as long as it takes and, told to stop, spends at most 10 s on what is left.
"""

import errno
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingest.client.transport import Transport
from ingest.ship_cursor import Cursor
from ingest.ship_lines import Position, read_chunk
from ingest.ship_send import LineReport, LogSender, Progress, ShipError

__all__ = ["LineReport", "Progress", "ShipError", "ShipResult", "ship"]

FILE_PATTERN = "session_*.jsonl"
TIMEOUT_S = 30.0
PATIENCE_S = 60.0
POLL_S = 0.5
LAST_PASS_S = 10.0


@dataclass(frozen=True)
class Look:
    """What tells whether a file needs reading; the last look takes unterminated lines, too."""

    inode: int
    num_bytes: int
    modified_ns: int
    takes_tail: bool


@dataclass(frozen=True)
class ShipResult:
    """The lines of one call by verdict; `torn` ones are not among the `rejected`.

    `reports` are the first 10 000. `unsent` names the files with lines that have no verdict yet:
    where it is empty, every line is accounted for.
    """

    sent: int
    duplicate: int
    rejected: int
    torn: int
    reports: tuple[LineReport, ...]
    unsent: tuple[Path, ...]


def ship(
    paths: Sequence[Path],
    url: str,
    key: str,
    *,
    cursor_path: Path,
    follow: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ShipResult:
    """Ship the lines in `paths` that this server has not got; with `follow`, until `stop`.

    Raises ShipError naming what is missing or why the server refuses, ValueError for a url or key
    that cannot be one.
    """
    for path in paths:
        if not path.is_dir() and not path.is_file():
            raise ShipError(f"{path}: no such folder or regular file")
        if not os.access(path, os.R_OK):
            raise ShipError(f"{path}: may not be read; run as a user who may")
    stop = stop or threading.Event()
    transport = Transport(url, key, TIMEOUT_S)
    patience_s = math.inf if follow else PATIENCE_S
    sender = LogSender(transport, stop=stop, patience_s=patience_s, progress=progress)
    cursor = Cursor(cursor_path)
    shipper = Shipper(sender, url.rstrip("/"), cursor)
    try:
        shipper.send_news(log_files(paths), takes_tail=not follow, is_over=stop.is_set)
        while follow and not stop.wait(POLL_S):
            shipper.send_news(log_files(paths), takes_tail=False, is_over=stop.is_set)
        if follow:
            ends_at = time.monotonic() + LAST_PASS_S
            shipper.send_news(
                log_files(paths), takes_tail=True, is_over=lambda: time.monotonic() > ends_at
            )
        return shipper.result()
    finally:
        cursor.save()
        transport.close()


def log_files(paths: Sequence[Path]) -> list[Path]:
    """The regular files to ship, each once: those named, and the logs in the folders named."""
    files: dict[Path, None] = {}
    for path in paths:
        named = path.resolve()
        found = sorted(named.glob(FILE_PATTERN)) if named.is_dir() else [named]
        files.update((file, None) for file in found if file.is_file() and not file.is_symlink())
    return list(files)


class Shipper:
    """One call's way over the files, again and again: what is new is sent, the cursor moves."""

    def __init__(self, sender: LogSender, url: str, cursor: Cursor) -> None:
        self._sender = sender
        self._url = url
        self._cursor = cursor
        self._server: str | None = None
        self._looks: dict[Path, Look] = {}
        self._sizes: dict[Path, int] = {}
        self._reached: dict[Path, int] = {}

    def send_news(
        self, files: Sequence[Path], *, takes_tail: bool, is_over: Callable[[], bool]
    ) -> None:
        """Send what these files hold beyond the cursor, until all is sent or it `is_over`."""
        looks = {file: _look(file, takes_tail) for file in files}
        if all(self._looks.get(file) == look for file, look in looks.items()):
            return
        growth = [_change(self._sizes, file, look.num_bytes) for file, look in looks.items()]
        self._sender.tell(total_bytes=sum(growth))
        if not self._find_server():
            return
        for file, look in looks.items():
            if self._looks.get(file) == look:
                continue
            if is_over() or not self._send_file(file, look, is_over):
                return
            self._looks[file] = look

    def result(self) -> ShipResult:
        """The tally so far."""
        tally = self._sender.tally
        unsent = (file for file, size in self._sizes.items() if self._reached.get(file, 0) < size)
        return ShipResult(
            sent=tally.sent,
            duplicate=tally.duplicate,
            rejected=tally.rejected,
            torn=tally.torn,
            reports=tuple(self._sender.reports),
            unsent=tuple(unsent),
        )

    def _find_server(self) -> bool:
        """Ask who answers; an installation not seen before gets every file from its beginning."""
        server = self._sender.server()
        if server and server != self._server:
            self._server = server
            self._cursor.choose(f"{self._url} {server}")
            self._looks.clear()
        return server is not None

    def _send_file(self, path: Path, look: Look, is_over: Callable[[], bool]) -> bool:
        """Send a file's lines up to its present end; False where the server gave no verdict."""
        try:
            file = _open_regular(path)
        except OSError as error:
            self._sender.tell(LineReport(path, 0, "unreadable", f"file: {error.strerror}"))
            return True
        with file:
            position = self._cursor.position(path, file)
            self._reach(path, position)
            while position.num_bytes < look.num_bytes and not is_over():
                chunk = read_chunk(file, position, takes_tail=look.takes_tail)
                if chunk.end == position:
                    break
                if not self._sender.send(path, chunk.lines):
                    return False
                position = chunk.end
                self._cursor.advance(path, file, position)
                self._reach(path, position)
        return True

    def _reach(self, path: Path, position: Position) -> None:
        self._sender.tell(done_bytes=_change(self._reached, path, position.num_bytes))


def _look(path: Path, takes_tail: bool) -> Look:
    """What a file looks like from outside; an empty one where it has gone."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return Look(0, 0, 0, takes_tail)
    return Look(status.st_ino, status.st_size, status.st_mtime_ns, takes_tail)


def _change(table: dict[Path, int], path: Path, num_bytes: int) -> int:
    """Set a file's number, and say by how much it changed."""
    change = num_bytes - table.get(path, 0)
    table[path] = num_bytes
    return change


def _open_regular(path: Path) -> BinaryIO:
    """Open a file that is one when it is opened: no symlink, and no pipe to wait for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")
