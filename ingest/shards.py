"""Shards: immutable WebDataset tars, written whole or not at all, read by offset.

In: samples, each a list of named members. Out: a tar in the shard store that the stock webdataset
library opens, and where in it each sample lies. A shard is written to a temporary file, fsynced,
and published whole (`shard_store`), so a reader never sees half of one. Its id is its content's
blake3: a redo after a crash between the publication and the index's commit writes the same bytes
to the same name, over the orphan. The mtime is a plain 0, so a member costs its padded data
and one 512-byte header (a float mtime, as webdataset writes it, costs 1,536).
"""

import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from blake3 import blake3

from ingest.ids import ID_BYTES
from ingest.shard_store import ShardStore

BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * BLOCK)
_PIECE_BYTES = 1 << 20


class CorruptShardError(Exception):
    """A shard's bytes are not what was written; the message names the file."""


@dataclass(frozen=True)
class Span:
    """Where one sample lies in a shard: from its first tar header to its last padded byte."""

    offset: int
    length: int


@dataclass(frozen=True)
class WrittenShard:
    """A published shard; `path` is its name in the store."""

    shard_id: str
    path: str
    num_bytes: int
    num_samples: int
    checksum: str


class ShardWriter:
    """Writes one shard: `add` each sample, then `publish`; without that nothing stays behind.

    `folder` is where in the store it goes, such as "frames".
    """

    def __init__(self, store: ShardStore, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._temporary = store.temporaries / f"{uuid4().hex}.tar"
        self._temporary.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("xb")
        self._hasher = blake3()
        self._num_bytes = 0
        self._num_samples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, members: Sequence[tuple[str, bytes]]) -> Span:
        """Append one sample's members, each a (name, data), and say where they lie.

        Raises ValueError when a name does not fit a plain tar header: ASCII, 100 characters.
        """
        offset = self._num_bytes
        for name, data in members:
            header = _header(name, len(data))
            self._write(header + data + bytes(-len(data) % BLOCK))
        self._num_samples += 1
        return Span(offset, self._num_bytes - offset)

    def copy(self, sample: bytes) -> Span:
        """Append a sample as another shard holds it, all of its span, and say where it lies."""
        offset = self._num_bytes
        self._write(sample)
        self._num_samples += 1
        return Span(offset, len(sample))

    def publish(self) -> WrittenShard:
        """Make the shard durable under its final name."""
        self._write(_END)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        checksum = self._hasher.hexdigest()
        shard_id = checksum[: 2 * ID_BYTES]
        path = f"{self._folder}/{shard_id[:2]}/{shard_id}.tar"
        self._store.publish(self._temporary, path)
        return WrittenShard(shard_id, path, self._num_bytes, self._num_samples, checksum)

    def close(self) -> None:
        """Drop what was not published."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hasher.update(data)
        self._num_bytes += len(data)


def read_span(path: Path, offset: int, length: int) -> bytes:
    """Read one sample's bytes.

    Raises FileNotFoundError when the shard is gone, CorruptShardError when it is short.
    """
    with path.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), length, offset)
    if len(data) != length:
        raise CorruptShardError(f"{path}: {len(data)} bytes at {offset}, {length} were written")
    return data


def split_members(data: bytes) -> dict[str, bytes]:
    """Split one sample's bytes into {extension: data}; the extension follows the first dot.

    Raises CorruptShardError when a header does not check out.
    """
    return {name.partition(".")[2]: data[start:stop] for name, start, stop in _walk(data)}


def member_names(descriptor: int, offset: int, length: int) -> list[str]:
    """The names of one sample's members in an open shard, by their headers alone.

    Raises CorruptShardError when they do not fill the span exactly.
    """
    names = []
    position = offset
    while position < offset + length:
        member = _member(os.pread(descriptor, BLOCK, position), position)
        names.append(member.name)
        position += BLOCK + member.size + -member.size % BLOCK
    if position != offset + length:
        raise CorruptShardError(f"{names[-1:]} ends at {position}, not at {offset + length}")
    return names


def verify(path: Path, checksum: str) -> None:
    """Compare the whole file with its blake3.

    Raises CorruptShardError when it is another, FileNotFoundError when the file is gone.
    """
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        # Read in pieces, not mapped: a failing disk raises here instead of killing the process.
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
    if (found := hasher.hexdigest()) != checksum:
        raise CorruptShardError(f"{path}: blake3 is {found}, {checksum} was written")


def find_sound(store: ShardStore, path: str, checksum: str) -> Path:
    """A local file that is what was written; a damaged copy of it is fetched anew, once.

    Raises CorruptShardError, FileNotFoundError, or another OSError where the store is away.
    """
    local = store.local(path)
    try:
        verify(local, checksum)
    except CorruptShardError:
        store.drop_copy(path)
        local = store.local(path)
        verify(local, checksum)
    return local


def sweep_temporaries(store: ShardStore, older_than_s: float) -> int:
    """Remove what killed writers left behind; returns how many files went."""
    before = time.time() - older_than_s
    num_removed = 0
    for path in store.temporaries.glob("*.tar"):
        with suppress(FileNotFoundError):  # published or swept by another process meanwhile
            if path.stat().st_mtime < before:
                path.unlink()
                num_removed += 1
    return num_removed


def _header(name: str, num_bytes: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = num_bytes
    header = member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    assert len(header) == BLOCK
    return header


def _walk(data: bytes) -> Iterator[tuple[str, int, int]]:
    position = 0
    while position < len(data):
        member = _member(data[position : position + BLOCK], position)
        start = position + BLOCK
        stop = start + member.size
        if stop > len(data):
            raise CorruptShardError(f"{member.name} ends at {stop}, the sample at {len(data)}")
        yield member.name, start, stop
        position = stop + -member.size % BLOCK


def _member(header: bytes, position: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise CorruptShardError(f"no tar header at {position}: {error}") from error
