"""What troubles processes from outside: a disk that fills up, a clock that is turned."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEBIBYTE = 1 << 20


class Disk:
    """A folder on a small file system of its own, which takes root; None where that is missing."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        """Mount it. Raises PermissionError where this process may not."""
        folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "stovetop-crashes", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise PermissionError(f"can't mount a tmpfs at {folder}")
        self.folder = folder

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte more goes onto it."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            piece = bytes(MEBIBYTE)
            while piece:
                try:
                    file.write(piece)
                except OSError:
                    piece = piece[: len(piece) // 2]
        try:
            yield
        finally:
            filler.unlink()

    def close(self) -> None:
        """Unmount it, whoever still has a file of it open."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Clock:
    """The wall clock of an installation's processes, as a number of seconds beside the real one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.turn(0.0)

    def turn(self, offset_s: float) -> None:
        """Let it be so many seconds ahead, or behind."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(descriptor, struct.pack("d", offset_s), 0)  # 8 bytes at once: nobody sees half
        os.close(descriptor)
