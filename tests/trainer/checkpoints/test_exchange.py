"""What was read takes the place of what is live: bit for bit, and only once it is verified."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from tests.trainer.checkpoints.test_folder import POSITION
from trainer.checkpoints.copies import Memory
from trainer.checkpoints.exchange import Exchange, inner_optimizer, read_beside
from trainer.checkpoints.folder import (
    CheckpointDamaged,
    Manifest,
    begin_checkpoint,
    read_manifest,
)
from trainer.checkpoints.hf_state import copy_state, lay_down, restore_state
from trainer.ranks.alone import Alone

WIDTH = 6
Known = dict[str, Tensor]


class Vectors(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": torch.full((WIDTH,), index / 8)}


class Net(nn.Module):
    """A tied weight, a frozen one, buffers, and one that does not lie row by row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.aslant = nn.Parameter(torch.randn(WIDTH, WIDTH).T)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.frozen(self.norm(self.first(x))) @ self.aslant
        return {"loss": (self.second(hidden) - x).square().mean()}


@dataclass
class Saved:
    """A trainer that has a checkpoint, and what it held then."""

    trainer: transformers.Trainer
    folder: Path
    memory: Memory = field(default_factory=Memory)

    def save(self) -> None:
        copied = copy_state(self.trainer, Alone(), self.memory)
        unfinished = begin_checkpoint(
            self.folder / "step-3", POSITION, lambda path: lay_down(self.trainer, copied, path)
        )
        self.written = unfinished.finish()
        self.then = everything(self.trainer)
        self.memory.give_back((copied.model, copied.optimizer))

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.written.path, self.written.digest)

    def read(self) -> Exchange | None:
        return read_beside(self.trainer, self.written.path, self.manifest, self.memory)


def everything(trainer: transformers.Trainer) -> Known:
    """Copies of all weights, buffers and moments, by name."""
    model = trainer.model
    assert model is not None
    found = dict(model.state_dict())
    for index, moments in inner_optimizer(trainer).state_dict()["state"].items():
        found |= {f"{index}.{name}": value for name, value in moments.items()}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def are_equal(one: Known, other: Known) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Saved]:
    def make(
        model: nn.Module | None = None, base: type[transformers.Trainer] = transformers.Trainer
    ) -> Saved:
        args = TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=3,
            per_device_train_batch_size=4,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = base(model=model or Net(), args=args, train_dataset=Vectors())
        trainer.train()
        saved = Saved(trainer, tmp_path)
        saved.save()
        return saved

    return make


def spoil(trainer: transformers.Trainer) -> None:
    """Training went on: everything is another number."""
    assert trainer.model is not None
    with torch.no_grad():
        for tensor in trainer.model.state_dict().values():
            tensor.add_(1)
        for moments in inner_optimizer(trainer).state_dict()["state"].values():
            for tensor in moments.values():
                tensor.add_(1)


def test_everything_is_back_bit_for_bit_in_the_memory_that_was_read_into(
    make: Callable[..., Saved],
) -> None:
    saved = make()
    weight = saved.trainer.model.first.weight
    moment = inner_optimizer(saved.trainer).state[weight]["exp_avg"]
    before = (weight.data_ptr(), moment.data_ptr())
    spoil(saved.trainer)
    spoiled = everything(saved.trainer)
    exchange = saved.read()
    assert exchange is not None
    assert are_equal(everything(saved.trainer), spoiled)
    exchange.carry_out()
    assert are_equal(everything(saved.trainer), saved.then)
    assert saved.trainer.model.first.weight is weight
    after = (weight.data_ptr(), inner_optimizer(saved.trainer).state[weight]["exp_avg"].data_ptr())
    assert set(before) <= exchange.leaving
    assert not set(after) & exchange.leaving


def test_the_tip_lies_in_the_memory_that_is_left_and_serves_the_next_exchange(
    make: Callable[..., Saved],
) -> None:
    saved = make()
    weight = saved.trainer.model.first.weight
    addresses = set()
    for _ in range(4):
        spoil(saved.trainer)
        tip = everything(saved.trainer)
        exchange = saved.read()
        assert exchange is not None
        copied = copy_state(saved.trainer, Alone(), saved.memory, exchange.leaving)
        left = weight.data_ptr()
        exchange.carry_out()
        spoil(saved.trainer)
        assert copied.model["first.weight"].data_ptr() == left != weight.data_ptr()
        assert all(torch.equal(copied.model[name], tip[name]) for name in copied.model)
        saved.memory.give_back((copied.model, copied.optimizer))
        addresses.add(weight.data_ptr())
        del exchange
    assert len(addresses) > 1


def test_a_view_that_somebody_holds_sees_what_is_back(make: Callable[..., Saved]) -> None:
    saved = make()
    held = saved.trainer.model.first.weight.detach().numpy()
    spoil(saved.trainer)
    exchange = saved.read()
    assert exchange is not None
    copied = copy_state(saved.trainer, Alone(), saved.memory, exchange.leaving)
    spoiled = torch.tensor(held)
    exchange.carry_out()
    assert torch.equal(torch.tensor(held), saved.then["first.weight"])
    assert torch.equal(copied.model["first.weight"], spoiled)


class Tied(Net):
    """One memory, two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.second.weight = nn.Parameter(self.first.weight.detach())


class SavesOnce(transformers.Trainer):
    """Leaves out what shares memory, as a PreTrainedModel does."""

    def _save(self, output_dir: str | None = None, state_dict: Known | None = None) -> None:
        assert state_dict is not None
        kept = {name: value for name, value in state_dict.items() if name != "second.weight"}
        super()._save(output_dir, kept)


def test_what_shares_memory_still_does(make: Callable[..., Saved]) -> None:
    saved = make(Tied(), SavesOnce)
    spoil(saved.trainer)
    exchange = saved.read()
    assert exchange is not None
    exchange.carry_out()
    assert are_equal(everything(saved.trainer), saved.then)
    model = saved.trainer.model
    assert model.first.weight.data_ptr() == model.second.weight.data_ptr()


def test_moments_that_are_not_made_yet_come_with_it_and_go_again(
    make: Callable[..., Saved],
) -> None:
    saved = make()
    inner_optimizer(saved.trainer).state.clear()
    exchange = saved.read()
    assert exchange is not None
    exchange.carry_out()
    assert are_equal(everything(saved.trainer), saved.then)
    inner_optimizer(saved.trainer).state.clear()
    saved.save()
    assert not any("exp_avg" in name for name in saved.then)
    spoil(saved.trainer)
    exchange = saved.read()
    assert exchange is not None
    exchange.carry_out()
    assert are_equal(everything(saved.trainer), saved.then)


class LoadsItsOwnWay(transformers.Trainer):
    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: object) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, *args)
        self.was_loaded = True


def test_a_trainer_that_loads_in_its_own_way_does(make: Callable[..., Saved]) -> None:
    saved = make(base=LoadsItsOwnWay)
    spoil(saved.trainer)
    exchange = saved.read()
    assert exchange is None
    restore_state(saved.trainer, saved.written.path, exchange)
    assert are_equal(everything(saved.trainer), saved.then)
    assert saved.trainer.was_loaded


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.99])
def test_one_flipped_bit_anywhere_changes_nothing(
    make: Callable[..., Saved], name: str, part: float
) -> None:
    saved = make()
    path = saved.written.path / name
    data = bytearray(path.read_bytes())
    data[int(part * len(data))] ^= 1
    path.write_bytes(data)
    spoil(saved.trainer)
    spoiled = everything(saved.trainer)
    with pytest.raises(CheckpointDamaged, match=f"{name} does not match its checksum"):
        saved.read()
    assert are_equal(everything(saved.trainer), spoiled)
