"""Files, copied and compared with what they should be; a copy is there whole or not at all."""

import os
import shutil
from pathlib import Path

from blake3 import blake3

from control_api.backup.manifest import CopiedFile
from ingest.durable import sync

PIECE_BYTES = 1 << 20
_TEMPORARY = ".copying-"


class Damaged(Exception):
    """A file is not what was written; the message names it."""


def copy_file(source: Path, target: Path, checksum: str) -> None:
    """Copy a file, durably, under its name or not at all; one that is there already stays.

    Raises Damaged where the bytes are not those of the checksum (blake3), OSError.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{_TEMPORARY}{target.name}")
    try:
        copy_bytes(source, temporary, checksum)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def copy_bytes(source: Path, target: Path, checksum: str) -> None:
    """Copy to a file that nobody knows yet. Raises as `copy_file` does."""
    hasher = blake3()
    with source.open("rb", buffering=0) as reading, target.open("wb") as writing:
        while piece := reading.read(PIECE_BYTES):
            hasher.update(piece)
            writing.write(piece)
        writing.flush()
        os.fsync(writing.fileno())
    if hasher.hexdigest() != checksum:
        raise Damaged(f"{source} does not match its checksum")


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder of files, durably, under its name or not at all. Raises OSError."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{_TEMPORARY}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary)
        for path in temporary.rglob("*"):
            sync(path)
        temporary.replace(target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def described(path: Path) -> CopiedFile:
    """A file beside the manifest, made durable."""
    sync(path)
    return CopiedFile(name=path.name, num_bytes=path.stat().st_size, blake3=checksum_of(path))


def checksum_of(path: Path) -> str:
    """blake3 of a file."""
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()
