"""Checkpoints on disk: a folder of files behind a manifest with their checksums.

In: a function that writes a run's state into a folder. Out: a folder that exists whole or not at
all: written beside under a temporary name, the manifest last, every file fsynced, read back and
compared, then renamed. A failure leaves what was there before. Nothing is ever written over: a
path that is taken gets the next free suffix. blake3 reads 2.6 GB/s on one core here.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import orjson
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError

from trainer.commands.references import MixVersion

MANIFEST = "manifest.json"
_TEMPORARY = ".writing-"
_CHUNK_BYTES = 1 << 20


class CheckpointFailed(RuntimeError):
    """A checkpoint could not be written; the disk is as before."""


class CheckpointDamaged(RuntimeError):
    """A checkpoint's files are not what its manifest says."""


class FileSeal(BaseModel):
    """Size and checksum of one file."""

    model_config = ConfigDict(frozen=True)

    num_bytes: int
    blake3: str


class RunPosition(BaseModel):
    """Where a run stood: everything that HF's files do not hold.

    `command_number` is the last command that had been applied; `hold_until` the step up to which
    adoptions follow the parent branch after a rollback that holds the data. `rates` are those of
    all parameter groups, `frozen` what `modules.names_of` calls the parameters that stand still.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    branch: str
    step: int
    lr: float
    rates: tuple[float, ...]
    max_grad_norm: float
    frozen: tuple[str, ...]
    mix: MixVersion
    adoption: int
    command_number: int
    is_paused: bool
    hold_until: int | None
    stream: dict[str, object]


class Manifest(BaseModel):
    """What a checkpoint holds."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    position: RunPosition
    files: dict[str, FileSeal] = Field(description="by name within the folder")


@dataclass(frozen=True, slots=True)
class Written:
    """A verified checkpoint; `digest` is the manifest's blake3."""

    path: Path
    digest: str
    num_bytes: int


def write_checkpoint(
    folder: Path, position: RunPosition, write_state: Callable[[Path], None]
) -> Written:
    """Write a verified checkpoint to `folder`, or beside it where that is taken.

    Raises CheckpointFailed and removes what was written when anything goes wrong, a full disk
    for instance.
    """
    temporary = folder.parent / f"{_TEMPORARY}{folder.name}"
    try:
        temporary.mkdir(parents=True)
        write_state(temporary)
        manifest = Manifest(position=position, files=_seal_files(temporary))
        data = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
        (temporary / MANIFEST).write_bytes(data)
        _sync_folder(temporary)
        digest = blake3(data).hexdigest()
        read_manifest(temporary, digest)
        path = _publish(temporary, folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointFailed(f"could not write {folder}: {error}") from error
    num_bytes = len(data) + sum(seal.num_bytes for seal in manifest.files.values())
    return Written(path, digest, num_bytes)


def read_manifest(path: Path, digest: str) -> Manifest:
    """The manifest of a checkpoint whose every file checks out.

    Raises CheckpointDamaged naming the first file that does not.
    """
    try:
        data = (path / MANIFEST).read_bytes()
        if blake3(data).hexdigest() != digest:
            raise CheckpointDamaged(f"{path / MANIFEST} is not the one that was registered")
        manifest = Manifest.model_validate_json(data)
        for name, seal in manifest.files.items():
            if _seal(path / name) != seal:
                raise CheckpointDamaged(f"{path / name} does not match its checksum")
    except OSError as error:
        raise CheckpointDamaged(f"{path} can't be read: {error}") from error
    return manifest


def remove_unfinished(run_folder: Path) -> None:
    """Remove what a process left that died while writing; the run's holder only calls this."""
    for leftover in run_folder.glob(f"*/{_TEMPORARY}*"):
        shutil.rmtree(leftover)


def _publish(temporary: Path, folder: Path) -> Path:
    for attempt in count(1):
        path = folder if attempt == 1 else folder.with_name(f"{folder.name}-{attempt}")
        if not path.exists():
            break
    temporary.rename(path)
    _sync(path.parent)
    return path


def _seal_files(folder: Path) -> dict[str, FileSeal]:
    return {
        str(path.relative_to(folder)): _seal(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _seal(path: Path) -> FileSeal:
    hasher, num_bytes = blake3(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
            num_bytes += len(chunk)
    return FileSeal(num_bytes=num_bytes, blake3=hasher.hexdigest())


def _sync_folder(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
