"""What outlives a power cut: a file's bytes, or a folder's entries, on the disk itself."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
