"""Checkpoints on disk: whole or not there, verified, and never written over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.checkpoints.folder import (
    CheckpointDamaged,
    CheckpointFailed,
    Places,
    RunPosition,
    WriteState,
    Written,
    begin_checkpoint,
    check_files,
    read_manifest,
    remove_unlisted,
)
from trainer.commands.references import MixVersion
from trainer.mix.slice_sampler import SlicePolicy

POSITION = RunPosition(
    run_id="run",
    branch="main",
    step=5,
    lr=0.1,
    rates=(0.1, 0.2),
    max_grad_norm=1.0,
    frozen=("layers.0",),
    mix=MixVersion("mix", 2, {"old": 1.0}, {"old": SlicePolicy(0.1, 3)}),
    adoption=3,
    command_number=7,
    is_paused=False,
    hold_until=None,
    stream={"seed": 1},
)


CopyState = Callable[[Path], WriteState]


def holding(data: bytes) -> CopyState:
    def copy_state(folder: Path) -> WriteState:
        def write_state() -> Places:
            (folder / "model.safetensors").write_bytes(data)
            return {}

        return write_state

    return copy_state


def fail_half_way(folder: Path) -> WriteState:
    def write_state() -> Places:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    return write_state


def fail_at_once(folder: Path) -> WriteState:
    (folder / "rng_state.pth").write_bytes(b"half")
    raise OSError(28, "No space left on device")


def write_checkpoint(folder: Path, position: RunPosition, copy_state: CopyState) -> Written:
    return begin_checkpoint(folder, position, copy_state).finish()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written = write_checkpoint(tmp_path / "main" / "step-5", POSITION, holding(b"weights"))
    assert written.path == tmp_path / "main" / "step-5"
    assert read_manifest(written.path, written.digest).position == POSITION
    on_disk = sum(path.stat().st_size for path in written.path.iterdir())
    assert written.num_bytes == on_disk


def test_a_path_that_is_taken_is_not_written_over(tmp_path: Path) -> None:
    first = write_checkpoint(tmp_path / "step-5", POSITION, holding(b"first"))
    second = write_checkpoint(tmp_path / "step-5", POSITION, holding(b"second"))
    assert second.path.name == "step-5-2"
    assert (first.path / "model.safetensors").read_bytes() == b"first"


@pytest.mark.parametrize("fail", [fail_half_way, fail_at_once])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, fail: CopyState) -> None:
    first = write_checkpoint(tmp_path / "step-5", POSITION, holding(b"first"))
    with pytest.raises(CheckpointFailed, match="No space left"):
        write_checkpoint(tmp_path / "step-5", POSITION, fail)
    assert list(tmp_path.iterdir()) == [first.path]
    read_manifest(first.path, first.digest)


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_changed_file_is_found(tmp_path: Path, name: str) -> None:
    written = write_checkpoint(tmp_path / "step-5", POSITION, holding(b"weights"))
    data = bytearray((written.path / name).read_bytes())
    data[3] ^= 1
    (written.path / name).write_bytes(data)
    with pytest.raises(CheckpointDamaged, match=name):
        check_files(written.path, read_manifest(written.path, written.digest))


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    written = write_checkpoint(tmp_path / "step-5", POSITION, holding(b"weights"))
    (written.path / "model.safetensors").unlink()
    with pytest.raises(CheckpointDamaged, match="can't be read"):
        check_files(written.path, read_manifest(written.path, written.digest))


def test_two_that_are_written_at_once_get_paths_of_their_own(tmp_path: Path) -> None:
    first = begin_checkpoint(tmp_path / "step-5", POSITION, holding(b"first"))
    second = begin_checkpoint(tmp_path / "step-5", POSITION, holding(b"second"))
    paths = [second.finish().path, first.finish().path]
    assert [path.name for path in paths] == ["step-5-2", "step-5"]
    assert [(path / "model.safetensors").read_bytes() for path in paths] == [b"second", b"first"]


def test_what_a_dead_process_had_not_listed_is_removed(tmp_path: Path) -> None:
    listed = write_checkpoint(tmp_path / "main" / "step-5", POSITION, holding(b"weights"))
    write_checkpoint(tmp_path / "main" / "step-6", POSITION, holding(b"weights"))
    begin_checkpoint(tmp_path / "main" / "step-7", POSITION, holding(b"weights"))
    remove_unlisted(tmp_path, {listed.path})
    assert list((tmp_path / "main").iterdir()) == [listed.path]
