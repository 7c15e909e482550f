"""How far each file was shipped to each server, in one JSON file that is replaced atomically.

In: positions as the server acknowledges them. Out: where to go on, the next time.
Guaranteed: a position is kept only after its lines were acknowledged, and belongs to one server
instance; a file that shrank or was replaced (another inode, or other first bytes) starts again.
Whatever is lost (a crash, two shippers with one cursor, an unreadable cursor) only makes lines be
sent again, and the server stores each once.
Decision: written at most every 2 s, so that 100 000 files do not cost a write of all a chunk.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import BinaryIO

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from ingest.ship_lines import Position

log = structlog.get_logger()
HEAD_BYTES = 1_024
SAVE_EVERY_S = 2.0


class Mark(BaseModel):
    """A position in one file, and what tells whether it is still that file."""

    model_config = ConfigDict(frozen=True)

    inode: int
    head_bytes: int
    head_sha256: str
    offset: int
    num_lines: int
    tail: int


class Marks(BaseModel):
    """The cursor file: server, then absolute path, then mark."""

    servers: dict[str, dict[str, Mark]] = {}


class Cursor:
    """The marks of one cursor file; `server` names the instance that the next calls mean."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks = _load(path)
        self._files: dict[str, Mark] = {}
        self._saved_at = time.monotonic()

    def choose(self, server: str) -> None:
        """From now on, positions are those of this server."""
        self._files = self._marks.servers.setdefault(server, {})

    def position(self, path: Path, file: BinaryIO) -> Position:
        """Where to go on in a file; its beginning where it is new or not the same any more."""
        mark = self._files.get(str(path))
        if mark is None:
            return Position()
        status = os.fstat(file.fileno())
        position = Position(mark.offset, mark.num_lines, mark.tail)
        is_same = (
            status.st_ino == mark.inode
            and status.st_size >= position.num_bytes
            and _head_sha256(file, mark.head_bytes) == mark.head_sha256
        )
        return position if is_same else Position()

    def advance(self, path: Path, file: BinaryIO, position: Position) -> None:
        """Keep an acknowledged position; written now or within SAVE_EVERY_S of the next call."""
        head_bytes = min(HEAD_BYTES, position.num_bytes)
        self._files[str(path)] = Mark(
            inode=os.fstat(file.fileno()).st_ino,
            head_bytes=head_bytes,
            head_sha256=_head_sha256(file, head_bytes),
            offset=position.offset,
            num_lines=position.num_lines,
            tail=position.tail,
        )
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the cursor: beside, to the disk, then over the old one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with beside.open("w") as file:
            file.write(self._marks.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        self._saved_at = time.monotonic()


def _load(path: Path) -> Marks:
    try:
        return Marks.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Marks()
    except ValidationError as error:
        log.warning("ship_cursor_unreadable", path=str(path), num_errors=error.error_count())
        return Marks()


def _head_sha256(file: BinaryIO, num_bytes: int) -> str:
    file.seek(0)
    return hashlib.sha256(file.read(num_bytes)).hexdigest()
