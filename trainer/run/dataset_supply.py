"""A run's supply from its author's own map-style dataset, as their Trainer would load it.

In: the loader that the Trainer made of dataset, sampler and collator. Out: the same batches in an
order that is a function of (seed, epoch, position) alone: the sampler is asked once an epoch, under
the epoch's seed, and refused at the start if it answers differently when asked again. Guaranteed: a
position is two numbers; after a rollback or a crash the same samples come again, with workers or
without, and what workers had read ahead is left unused. With workers samples are loaded under seeds
of their own, so that random augmentations repeat, too; in the training process itself they draw
from its generators, whose state is in the checkpoint.
A step takes a fixed number of micro-batches; one at an epoch's end goes on into the next epoch.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ingest.ids import content_id
from trainer.checkpoints.folder import RunPosition
from trainer.commands.references import CommandRefused, MixVersion
from trainer.family import Tensors
from trainer.journal.entries import Entry
from trainer.loop.generators import preserved_generators, seed_generators
from trainer.mix.adopt import AdoptionPlan
from trainer.mix.sampler import MixStatus
from trainer.ranks.alone import Member
from trainer.run.supply import Drawn, Repeat
from trainer.tables import DATASET

# Shown where a run of the platform shows its mix: all of it comes from one place.
OWN_MIX = MixVersion(DATASET, 1, {DATASET: 1.0}, {})


class UnusableDataset(ValueError):
    """A dataset whose order can't be repeated; says what to do."""


class DatasetSupply:
    """Draws from a loader's dataset; close it to end its workers.

    Where several processes train, a micro-batch is one batch of the author's for each of them.
    """

    def __init__(self, loader: "DataLoader[Any]", seed: int, ranks: Member) -> None:
        if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
            raise UnusableDataset(
                "train_dataset: give a map-style dataset, with __len__ and __getitem__; "
                "the order of an iterable one can't be taken up again after a rollback"
            )
        self.mix = OWN_MIX
        self.adoption = 0
        self.hold_until: int | None = None
        self.status = MixStatus(OWN_MIX.shares, OWN_MIX.shares)
        self._loader = loader
        self._seed = seed
        self._ranks = ranks
        self._batches: Iterator[Tensors] | None = None
        self._stand(epoch=0, position=0)
        if self._order_of(0) != self._order:
            raise UnusableDataset(
                "train_dataset: its sampler gives another order each time it is asked, which can't "
                "be taken up again; let it draw from torch's, numpy's or Python's own generator, "
                "from a torch.Generator named `generator`, or by `set_epoch`"
            )

    @property
    def num_batches(self) -> int:
        """Micro-batches in one epoch."""
        return len(self._order) // self._ranks.count

    @property
    def epoch(self) -> float:
        """How far training is, in epochs."""
        return self._epoch + self._position / self.num_batches

    def draw(self, num_micro_batches: int) -> Drawn:
        """The next step's samples; their numbers are places in the dataset."""
        numbers: list[int] = []
        batches: list[Tensors] = []
        for _ in range(num_micro_batches):
            if self._position == self.num_batches:
                self._stand(self._epoch + 1, position=0)
            if self._batches is None:
                self._batches = self._load()
            batches.append(next(self._batches))
            numbers += chain.from_iterable(self._order[self._of_all(self._position)])
            self._position += 1
        return Drawn(np.array(numbers, dtype=np.int64), batches)

    def check_mix(self, mix: MixVersion, field: str) -> None:
        """There is nothing to mix. Raises CommandRefused."""
        if mix != OWN_MIX:
            raise CommandRefused(field, "the run draws from its own dataset, which has no mix")

    def set_mix(self, mix: MixVersion) -> None:
        """There is one."""
        assert mix == OWN_MIX

    def adopt(self, _branch: str, _next_step: int) -> list[Entry]:
        """A dataset has no revisions."""
        return []

    def is_adopting(self, _next_step: int) -> bool:
        """Never."""
        return False

    def take(self, _plan: AdoptionPlan) -> None:
        """A dataset has no revisions."""
        raise AssertionError("nobody plans an adoption of a dataset")

    def state_dict(self) -> dict[str, Any]:
        """The position after the last step."""
        return {"epoch": self._epoch, "position": self._position, "num_batches": self.num_batches}

    def restore(self, position: RunPosition, _repeats: Sequence[Repeat]) -> None:
        """Stand where a checkpoint did.

        Raises CommandRefused where the dataset or the batch size is another one by now.
        """
        at: dict[str, Any] = position.stream
        if at["num_batches"] != self.num_batches:
            raise CommandRefused(
                "checkpoint",
                f"it was made with {at['num_batches']} batches an epoch, now there are "
                f"{self.num_batches}; use the same dataset and batch size",
            )
        self._stand(at["epoch"], at["position"])

    def close(self) -> None:
        """End the workers."""
        self._batches = None

    def _stand(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position
        self._order = self._order_of(epoch)
        self._batches = None

    def _order_of(self, epoch: int) -> list[list[int]]:
        """The epoch's batches, asked of the author's sampler; other generators stay as they are."""
        sampler: Any = self._loader.batch_sampler
        sampler = getattr(sampler, "batch_sampler", sampler)  # accelerate's would give one share
        seed = _derived(self._seed, "order", epoch)
        for part in (sampler, getattr(sampler, "sampler", None)):
            if part is not None and hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
            generator = getattr(part, "generator", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)
        with preserved_generators():
            seed_generators(seed)
            return _even([list(batch) for batch in sampler], self._ranks.count)

    def _of_all(self, position: int) -> slice:
        """The batches of all ranks at a position."""
        return slice(position * self._ranks.count, (position + 1) * self._ranks.count)

    def _load(self) -> Iterator[Tensors]:
        loader, workers = self._loader, self._loader.num_workers
        dataset: Dataset[Any] = loader.dataset
        if workers:
            seeded = _SeededBatches if hasattr(dataset, "__getitems__") else _SeededSamples
            dataset = seeded(dataset, _derived(self._seed, "sample", self._epoch))
        seed = _derived(self._seed, "workers", self._epoch)
        return iter(
            DataLoader(
                dataset,
                batch_sampler=self._order[self._of_all(self._position).start :][self._ranks.share],
                collate_fn=loader.collate_fn,
                num_workers=workers,
                pin_memory=loader.pin_memory and torch.cuda.is_available(),
                timeout=loader.timeout,
                worker_init_fn=loader.worker_init_fn,
                multiprocessing_context=loader.multiprocessing_context,
                prefetch_factor=loader.prefetch_factor,
                generator=torch.Generator().manual_seed(seed),
            )
        )


def _even(batches: list[list[int]], count: int) -> list[list[int]]:
    """As many batches for each rank, of one size: filled from the epoch's beginning, as HF does."""
    if count == 1 or not batches:
        return batches
    size, numbers = len(batches[0]), list(chain.from_iterable(batches))
    missing = -len(numbers) % (size * count)
    numbers += islice(cycle(numbers), missing)
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


class _SeededSamples(Dataset[Any]):
    """In a worker: each sample under a seed of its place in the dataset and the epoch."""

    def __init__(self, dataset: "Dataset[Any]", seed: int) -> None:
        self._dataset: Any = dataset
        self._seed = seed

    def __getitem__(self, index: int) -> object:
        seed_generators((self._seed + index) % 2**32)
        return self._dataset[index]


class _SeededBatches(_SeededSamples):
    """The same where the dataset gives a batch at once: under the seed of its first sample."""

    def __getitems__(self, indices: list[int]) -> object:
        seed_generators((self._seed + indices[0]) % 2**32)
        return self._dataset.__getitems__(indices)


def _derived(seed: int, purpose: str, epoch: int) -> int:
    return int(content_id(str(seed), purpose, str(epoch))[:8], 16)
