"""Checkpoints are written beside the steps, listed once they are whole, and bounded in memory."""

import resource
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, select
from torch import nn

from ingest.database import read
from tests.trainer.asking import all_settled, ask_now, commands, metric
from tests.trainer.checkpoints.test_folder import POSITION
from tests.trainer.tiny import TinyFamily
from tests.waiting import wait_until
from trainer.checkpoints.folder import CheckpointFailed, Places, WriteState, begin_checkpoint
from trainer.checkpoints.register import Register
from trainer.journal.entries import Entry, RunStarted, Together
from trainer.journal.lineage import CheckpointSaved
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.saving import MAX_UNDER_WAY, Outcome, Saver, Saving
from trainer.run.training import Workplace, train
from trainer.tables import Checkpoint

pytest_plugins = ["tests.trainer.live_runs"]

MOST_BYTES = 1 << 21  # the database stays below, a checkpoint of LargeFamily is above
SETTLED = RunStarted(1.0)  # stands for what a command that waited leaves


@dataclass
class Disk:
    """A disk that writes when it is let to, and then may be full."""

    is_free: threading.Event = field(default_factory=threading.Event)
    is_full: bool = False

    def copy_state(self, folder: Path) -> WriteState:
        def write_state() -> Places:
            assert self.is_free.wait(20)
            if self.is_full:
                raise OSError(28, "No space left on device")
            (folder / "model.safetensors").write_bytes(b"weights")
            return {}

        return write_state


@dataclass
class Desk:
    """A saver with a disk and a journal."""

    folder: Path
    disk: Disk = field(default_factory=Disk)
    entries: list[Entry] = field(default_factory=list)
    tidied: list[str] = field(default_factory=list)
    register: Register = field(default_factory=lambda: Register([]))

    def __post_init__(self) -> None:
        self.saver = Saver(self.register, self.entries.append, self.tidied.append)

    def save(self, name: str) -> Saving:
        unfinished = begin_checkpoint(self.folder / "step-5", POSITION, self.disk.copy_state)
        path = unfinished.path.name
        return self.saver.begin(
            unfinished,
            CheckpointSaved(f"id-{name}", "main", 5, 0.1, name, "", path, "", 0, False, 0.0),
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with closing(desk.saver):
        yield desk
        desk.disk.is_free.set()


def settle(_outcome: Outcome) -> tuple[Entry, ...]:
    return (SETTLED,)


def test_a_checkpoint_is_listed_once_it_is_written_and_not_before(desk: Desk) -> None:
    saving = desk.save("good")
    assert desk.saver.find("good") is desk.saver.find("id-good") is saving
    assert desk.saver.of_step("main", 5) is saving
    assert not desk.register.paths
    desk.disk.is_free.set()
    desk.saver.wait()
    assert desk.saver.find("good") is None
    assert desk.register.find("good").num_bytes > 0
    assert desk.tidied == ["main"]


def test_what_waits_for_a_checkpoint_is_settled_with_it_in_one_entry(desk: Desk) -> None:
    saving = desk.save("good")
    saving.once_over(settle, desk.entries.append)
    assert not desk.entries
    desk.disk.is_free.set()
    desk.saver.wait()
    assert desk.entries == [Together((desk.register.find("good"), SETTLED))]


def test_what_comes_after_the_end_is_settled_at_once(desk: Desk) -> None:
    desk.disk.is_free.set()
    saving = desk.save("good")
    desk.saver.wait()
    saving.once_over(settle, desk.entries.append)
    assert desk.entries[-1] == Together((SETTLED,))


def test_a_full_disk_lists_nothing_and_says_so_to_what_waits(desk: Desk) -> None:
    seen: list[Outcome] = []
    saving = desk.save("good")
    saving.once_over(lambda outcome: (seen.append(outcome), SETTLED)[1:], desk.entries.append)
    desk.disk.is_full = True
    desk.disk.is_free.set()
    desk.saver.wait()
    assert isinstance(seen[0], CheckpointFailed)
    assert desk.entries == [Together((SETTLED,))]
    assert not desk.register.paths
    assert not list(desk.folder.iterdir())
    assert not desk.tidied


def test_a_third_copy_waits_for_the_disk(desk: Desk) -> None:
    for count in range(MAX_UNDER_WAY):
        desk.saver.wait_for_room()
        desk.save(f"save-{count}")
    has_room = threading.Event()
    waiting = threading.Thread(target=lambda: (desk.saver.wait_for_room(), has_room.set()))
    waiting.start()
    assert not has_room.wait(0.05)
    desk.disk.is_free.set()
    waiting.join(20)
    assert has_room.is_set()


class LargeFamily(TinyFamily):
    """Its checkpoints are larger than what the disk is made to take."""

    def load_model(self) -> nn.Module:
        model = super().load_model()
        model.register_buffer("ballast", torch.zeros(MOST_BYTES))
        return model


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond this, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_fails_the_save_and_training_goes_on(
    place: Workplace, engine: Engine
) -> None:
    family = LargeFamily()
    limit = ExitStack()

    def during(count: int) -> None:
        if count == 2:
            limit.enter_context(no_file_above(MOST_BYTES))
            ask_now(engine, "save", name="bad")
        if count == 5:
            wait_until(lambda: all_settled(engine))
            limit.close()
            ask_now(engine, "save", name="good")

    family.witness.during = during
    run = find_or_make_run(engine, "run", RunOptions(max_steps=8, mix="mix"), family)
    with family.witness.watching():
        assert train(place, run, family) == "finished"
    assert [command.state for command in commands(engine)] == ["failed", "applied"]
    assert sorted(metric(engine, "loss")) == [1, 2, 3, 4, 5, 6, 7, 8]
    with read(engine) as session:
        saved = session.scalars(select(Checkpoint)).all()
    assert sorted(checkpoint.name for checkpoint in saved) == ["good", "main-0", "main-8"]
    assert all((place.settings.runs_path / checkpoint.path).exists() for checkpoint in saved)
