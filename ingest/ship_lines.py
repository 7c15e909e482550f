"""The physical lines of a log file that may still grow, in chunks of bounded size.

In: an open file and the position reached. Out: a chunk of numbered lines, and where it ends.
Guaranteed: a line is whole, or it is the file's unterminated tail and was asked for; memory stays
below MAX_CHUNK_BYTES plus a line. Lines of nothing but whitespace are no lines to account for: they
move the position and appear nowhere.
Decision: a line beyond 1 MiB (the server's limit for an event) is measured, never held or sent.
"""

from dataclasses import dataclass
from typing import BinaryIO

from ingest.client.client import MAX_EVENT_BYTES

MAX_LINE_BYTES = MAX_EVENT_BYTES
MAX_CHUNK_LINES = 1_000
MAX_CHUNK_BYTES = 4 << 20
READ_BYTES = MAX_LINE_BYTES + 1  # with its newline


@dataclass(frozen=True)
class Position:
    """How far a file is read: all before `offset`, and `tail` bytes of an unterminated line.

    The tail is told apart because its rest may come: then the whole line is read again.
    """

    offset: int = 0
    num_lines: int = 0
    tail: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes that need no more reading unless the file grows."""
        return self.offset + self.tail


@dataclass(frozen=True)
class Line:
    """One physical line without its end; `number` counts from 1; `num_bytes` is its length.

    Of a line that is too long, `content` is only the beginning.
    """

    number: int
    num_bytes: int
    content: bytes

    @property
    def is_too_long(self) -> bool:
        """Whether the server would refuse it for its size alone."""
        return self.num_bytes > MAX_LINE_BYTES


@dataclass(frozen=True)
class Chunk:
    """Consecutive lines of one file; `end` equals the start where there was nothing to read."""

    lines: list[Line]
    end: Position


def read_chunk(file: BinaryIO, start: Position, *, takes_tail: bool) -> Chunk:
    """Read the next lines after `start`; an unterminated last one only where `takes_tail`."""
    file.seek(start.offset)
    lines: list[Line] = []
    end = start
    while len(lines) < MAX_CHUNK_LINES and end.offset - start.offset < MAX_CHUNK_BYTES:
        content, num_bytes, is_whole = _read_line(file)
        if not num_bytes or not (is_whole or (takes_tail and num_bytes != end.tail)):
            break
        line = Line(end.num_lines + 1, num_bytes - is_whole, content.strip())
        if line.content or line.is_too_long:
            lines.append(line)
        if not is_whole:
            end = Position(end.offset, end.num_lines, num_bytes)
            break
        end = Position(end.offset + num_bytes, end.num_lines + 1)
    return Chunk(lines, end)


def _read_line(file: BinaryIO) -> tuple[bytes, int, bool]:
    """A line's first bytes (all of one that is not too long), its length, whether it has ended."""
    content = piece = file.readline(READ_BYTES)
    num_bytes = len(piece)
    while len(piece) == READ_BYTES and not piece.endswith(b"\n"):
        piece = file.readline(READ_BYTES)
        num_bytes += len(piece)
    return content, num_bytes, piece.endswith(b"\n")
