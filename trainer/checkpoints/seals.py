"""The seal of a checkpoint's file, and the one read that checks it and takes what it holds.

In: a file, and memory for some of its parts. Out: its size and checksum, the parts in the memory.
Decision: 4 MB at a time, hashed from the cache that the read left them in: at 1.26 GB that is 1.1
times a bare `readinto`; a second thread made it slower. The checksum is XXH3-128, for a rollback
waits for it: 20 GB/s on one core here, blake3 2.6. That guards against a disk; who can write to the
folder on purpose can also write to the database that names the manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from xxhash import xxh3_128

PIECE_BYTES = 1 << 22


class FileSeal(BaseModel):
    """Size and checksum of one file."""

    model_config = ConfigDict(frozen=True)

    num_bytes: int
    xxh3_128: str


def read_sealed(path: Path, parts: Mapping[int, memoryview]) -> FileSeal:
    """Read a whole file; its bytes from an offset on go into that offset's part of the memory.

    Parts don't overlap. Those of a file that is too short stay as they are from its end on.
    """
    with path.open("rb", buffering=0) as file:
        # Read, not mapped: a failing disk raises here instead of killing the process.
        reader = _Reader(file)
        for offset, part in sorted(parts.items(), key=lambda item: item[0]):
            reader.skip(offset - reader.num_bytes)
            reader.read(part)
        while reader.skip(PIECE_BYTES):
            pass
        return reader.seal


@dataclass
class _Reader:
    """Hashes what it reads."""

    file: FileIO
    num_bytes: int = 0
    _hasher: xxh3_128 = field(default_factory=xxh3_128)
    _piece: memoryview = field(default_factory=lambda: memoryview(bytearray(PIECE_BYTES)))

    @property
    def seal(self) -> FileSeal:
        return FileSeal(num_bytes=self.num_bytes, xxh3_128=self._hasher.hexdigest())

    def read(self, memory: memoryview) -> bool:
        """Fill the memory; whether there was so much."""
        while memory:
            count = self.file.readinto(memory[:PIECE_BYTES])
            if not count:
                return False
            self._hasher.update(memory[:count])
            self.num_bytes += count
            memory = memory[count:]
        return True

    def skip(self, num_bytes: int) -> bool:
        """Only hash; whether there was so much."""
        while num_bytes > 0:
            if not self.read(self._piece[: min(num_bytes, PIECE_BYTES)]):
                return False
            num_bytes -= PIECE_BYTES
        return True
