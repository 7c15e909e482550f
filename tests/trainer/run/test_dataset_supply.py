"""Somebody's own dataset as a run's supply: the same position gives the same samples, always."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler

from tests.trainer.own import NUM_SAMPLES, Waves, own_trainer
from trainer.checkpoints.folder import RunPosition
from trainer.commands.references import CommandRefused
from trainer.ranks.alone import Alone
from trainer.run.dataset_supply import OWN_MIX, DatasetSupply, UnusableDataset

Batches = list[tuple[list[int], list[list[float]]]]


def supply_of(num_workers: int = 0, **changed: object) -> DatasetSupply:
    usual: dict[str, object] = {"batch_size": 4, "shuffle": True, "num_workers": num_workers}
    return DatasetSupply(DataLoader(Waves(), **{**usual, **changed}), seed=7, ranks=Alone())


def drawn(supply: DatasetSupply, num_steps: int, num_micro_batches: int = 1) -> Batches:
    taken: Batches = []
    for _ in range(num_steps):
        step = supply.draw(num_micro_batches)
        rows = [row for batch in step.micro_batches for row in batch["x"].tolist()]
        taken.append((step.numbers.tolist(), rows))
    return taken


def numbers(batches: Batches) -> list[list[int]]:
    return [step for step, _rows in batches]


def position(supply: DatasetSupply) -> RunPosition:
    return RunPosition(
        run_id="run",
        branch="main",
        step=0,
        lr=0.1,
        rates=(0.1,),
        max_grad_norm=1.0,
        frozen=(),
        mix=OWN_MIX,
        adoption=0,
        command_number=0,
        is_paused=False,
        hold_until=None,
        stream=supply.state_dict(),
    )


@given(before=st.integers(0, 30), micro_batches=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_any_position_is_taken_up_again_by_another_process(before: int, micro_batches: int) -> None:
    first, second = supply_of(), supply_of()
    drawn(first, before, micro_batches)
    saved = position(first)
    ahead = numbers(drawn(first, 10, micro_batches))
    for supply in (first, second):
        supply.restore(saved, [])
        assert numbers(drawn(supply, 10, micro_batches)) == ahead


@pytest.mark.parametrize("has_batches", [False, True])
def test_random_augmentations_in_workers_repeat_in_the_midst_of_an_epoch(
    has_batches: bool,
) -> None:
    dataset = Batched() if has_batches else Waves()
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=2)
    supply = DatasetSupply(loader, seed=7, ranks=Alone())
    drawn(supply, 3, 3)
    saved = position(supply)
    ahead = drawn(supply, 4, 3)
    supply.restore(saved, [])
    assert drawn(supply, 4, 3) == ahead
    supply.close()


class Batched(Waves):
    """Gives batches at once, as many datasets of libraries do, and no single sample."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        raise AssertionError(f"sample {index} was asked for by itself")

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        return [super(Batched, self).__getitem__(index) for index in indices]


def test_every_epoch_has_each_sample_once_in_an_order_of_its_own() -> None:
    supply = supply_of()
    epochs = [
        [number for step in numbers(drawn(supply, supply.num_batches)) for number in step]
        for _ in range(3)
    ]
    assert all(sorted(epoch) == list(range(NUM_SAMPLES)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_what_does_not_fill_a_batch_is_dropped_where_its_author_says_so() -> None:
    supply = supply_of(drop_last=True)
    assert supply.num_batches == NUM_SAMPLES // 4
    assert {len(step) for step in numbers(drawn(supply, 2 * supply.num_batches))} == {4}


def test_asking_for_an_order_leaves_the_process_s_generators_as_they_are() -> None:
    torch.manual_seed(1)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    supply_of()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


class Shuffled(Sampler[int]):
    """An order from a generator that goes on from epoch to epoch."""

    def __init__(self) -> None:
        self._random = random.Random(3)

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __iter__(self) -> Iterator[int]:
        return iter(self._random.sample(range(NUM_SAMPLES), NUM_SAMPLES))


def test_a_sampler_with_a_torch_generator_is_repeatable() -> None:
    sampler = RandomSampler(Waves(), generator=torch.Generator().manual_seed(3))
    loader = DataLoader(Waves(), batch_sampler=BatchSampler(sampler, 4, drop_last=False))
    supply = DatasetSupply(loader, seed=7, ranks=Alone())
    saved = position(supply)
    ahead = numbers(drawn(supply, 30))
    supply.restore(saved, [])
    assert numbers(drawn(supply, 30)) == ahead


def test_a_sampler_that_can_not_be_asked_again_is_refused_at_the_start() -> None:
    with pytest.raises(UnusableDataset, match="set_epoch"):
        supply_of(shuffle=None, sampler=Shuffled())


def test_the_author_s_own_sampler_gives_the_order(tmp_path: Path) -> None:
    class Longest(transformers.Trainer):
        def _get_train_sampler(self, *_args: object) -> Sampler[int]:
            return transformers.trainer_pt_utils.LengthGroupedSampler(
                batch_size=4, lengths=[1 + index // 10 for index in range(NUM_SAMPLES)]
            )

    loader = own_trainer(tmp_path, Longest).authors_dataloader()
    supply = DatasetSupply(loader, seed=7, ranks=Alone())
    saved = position(supply)
    ahead = numbers(drawn(supply, supply.num_batches))
    assert ahead[0][0] >= 40  # of the longest, as this sampler begins
    supply.restore(saved, [])
    assert numbers(drawn(supply, supply.num_batches)) == ahead


def test_a_checkpoint_of_another_dataset_is_refused_with_nothing_changed() -> None:
    supply = supply_of()
    ahead = numbers(drawn(supply_of(), 3))
    with pytest.raises(CommandRefused, match="same dataset and batch size"):
        supply.restore(position(supply_of(batch_size=5)), [])
    assert numbers(drawn(supply, 3)) == ahead
