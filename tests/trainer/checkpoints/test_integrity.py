"""A listed checkpoint is compared with its manifest's seals, without torch."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from trainer.checkpoints.integrity import MANIFEST, SealedFiles, damage_of
from trainer.checkpoints.seals import read_sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of two files."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "state.json").write_bytes(b"{}")
    names = ("model.safetensors", "trainer/state.json")
    files = {name: read_sealed(tmp_path / name, {}) for name in names}
    (tmp_path / MANIFEST).write_text(SealedFiles(files=files).model_dump_json())
    return tmp_path


def digest_of(folder: Path) -> str:
    return blake3((folder / MANIFEST).read_bytes()).hexdigest()


def test_a_whole_checkpoint_is_sound(folder: Path) -> None:
    assert damage_of(folder, digest_of(folder)) is None


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("damage", [change, Path.unlink])
@pytest.mark.parametrize("name", [MANIFEST, "model.safetensors", "trainer/state.json"])
def test_a_file_that_is_another_or_gone_is_named(
    folder: Path, name: str, damage: Callable[[Path], None]
) -> None:
    digest = digest_of(folder)
    damage(folder / name)
    found = damage_of(folder, digest)
    assert found is not None
    assert name in found
