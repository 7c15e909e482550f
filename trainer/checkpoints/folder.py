"""Checkpoints on disk: a folder of files behind a manifest with their checksums.

In: a function that copies a run's state in memory. Out, in a thread beside the training: a folder
that exists whole or not at all: written beside under a temporary name, the manifest last, every
file fsynced, read back and compared, then renamed. A failure leaves what was there before. Nothing
is ever written over: a path that is taken gets the next free suffix. Decision: the manifest says
where tensors lie, so that the one read that checks a file can put them where they are wanted, and
nothing of a file is understood before all of it is checked.
"""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType

import orjson
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError

from ingest.durable import sync
from trainer.checkpoints.places import Place
from trainer.checkpoints.seals import FileSeal, read_sealed
from trainer.commands.references import MixVersion

MANIFEST = "manifest.json"
_TEMPORARY = ".writing-"

Places = Mapping[str, tuple[Place, ...]]  # by file
Parts = Mapping[str, Mapping[int, memoryview]]  # by file and offset
WriteState = Callable[[], Places]  # writes what was copied


class CheckpointFailed(RuntimeError):
    """A checkpoint could not be written; the disk is as before."""


class CheckpointDamaged(RuntimeError):
    """A checkpoint's files are not what its manifest says."""


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
    places: Places = Field(description="of the large tensors")


@dataclass(frozen=True, slots=True)
class Written:
    """A verified checkpoint; `digest` is the manifest's blake3."""

    path: Path
    digest: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A checkpoint whose state is copied, and which will be found at `path` once it is whole."""

    path: Path
    _temporary: Path
    _position: RunPosition
    _write_state: WriteState

    def finish(self) -> Written:
        """Write and verify it; in any thread.

        Raises CheckpointFailed and removes what was written when anything goes wrong, a full disk
        for instance.
        """
        with _removed_on_failure(self._temporary):
            places = self._write_state()
            files = _seal_files(self._temporary)
            manifest = Manifest(position=self._position, files=files, places=places)
            data = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
            (self._temporary / MANIFEST).write_bytes(data)
            _sync_folder(self._temporary)
            digest = blake3(data).hexdigest()
            check_files(self._temporary, read_manifest(self._temporary, digest))
            self._temporary.rename(self.path)
            sync(self.path.parent)
        num_bytes = len(data) + sum(seal.num_bytes for seal in manifest.files.values())
        return Written(self.path, digest, num_bytes)


def begin_checkpoint(
    folder: Path, position: RunPosition, copy_state: Callable[[Path], WriteState]
) -> Unfinished:
    """Copy a run's state, for a checkpoint at `folder`, or beside it where that is taken.

    `copy_state` gets a folder into which what it gives back will write the copy. Raises
    CheckpointFailed with nothing left behind.
    """
    path = _free_path(folder)
    temporary = _temporary_of(path)
    with _removed_on_failure(temporary):
        temporary.mkdir(parents=True)
        return Unfinished(path, temporary, position, copy_state(temporary))


@contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointFailed(f"could not write a checkpoint: {error}") from error


def _free_path(folder: Path) -> Path:
    for attempt in count(1):
        path = folder if attempt == 1 else folder.with_name(f"{folder.name}-{attempt}")
        if not path.exists() and not _temporary_of(path).exists():
            break
    return path


def _temporary_of(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{path.name}")


def read_manifest(path: Path, digest: str) -> Manifest:
    """The manifest of a checkpoint. Raises CheckpointDamaged where it is not the registered one."""
    try:
        data = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise CheckpointDamaged(f"{path} can't be read: {error}") from error
    if blake3(data).hexdigest() != digest:
        raise CheckpointDamaged(f"{path / MANIFEST} is not the one that was registered")
    return Manifest.model_validate_json(data)


def check_files(path: Path, manifest: Manifest, parts: Parts = MappingProxyType({})) -> None:
    """Read all files, into memory where there is some for their parts.

    Raises CheckpointDamaged naming the first one that is not what the manifest says.
    """
    for name, seal in manifest.files.items():
        try:
            found = read_sealed(path / name, parts.get(name, {}))
        except OSError as error:
            raise CheckpointDamaged(f"{path} can't be read: {error}") from error
        if found != seal:
            raise CheckpointDamaged(f"{path / name} does not match its checksum")


def remove_unlisted(run_folder: Path, listed: Collection[Path]) -> None:
    """Remove what a process left that died before it could list it; for the run's holder only."""
    for folder in run_folder.glob("*/*step-*"):
        if folder not in listed:
            shutil.rmtree(folder)


def _seal_files(folder: Path) -> dict[str, FileSeal]:
    return {
        str(path.relative_to(folder)): read_sealed(path, {})
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _sync_folder(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        sync(path)
