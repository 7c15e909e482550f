"""A transformers.Trainer that obeys commands at step boundaries; Hugging Face's loop as it is.

In: any Trainer class. Out: a subclass with the same constructor. What it changes: batches come from
the run, not prepared by accelerate (whose loader looks one batch ahead, so that a new mix would
come a batch late); the learning rate lives in a `LiveSchedule`; frozen parameters lose their
gradients; evaluation leaves no trace on the generators; a callback hands every boundary over. No
line of the loop is copied.
"""

import inspect
from collections.abc import Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import (
    SchedulerType,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from typing_extensions import override

from trainer.family import Tensors
from trainer.loop.frozen import Frozen
from trainer.loop.generators import preserved_generators
from trainer.loop.observed import ObservedStep
from trainer.loop.schedule import LiveSchedule
from trainer.ranks.sharded import shard

ON_A_METRIC = ("reduce_lr_on_plateau", "greedy")  # the second one is not in every transformers

Mixin = TypeVar("Mixin", bound="InteractiveTrainer")


class Interaction(Protocol):
    """What a run does with its trainer; `trainer.run.boundary.Boundary` is the real one."""

    observed: ObservedStep

    def before_first_step(self, trainer: Trainer) -> None:
        """The boundary before the first step, with optimizer and scheduler in place."""

    def next_step(self, trainer: Trainer) -> list[Tensors]:
        """The next step's micro-batches; none once the run ends."""

    def after_step(self, trainer: Trainer) -> None:
        """The boundary after a step."""

    def save(self, trainer: Trainer) -> None:
        """An automatic checkpoint, where the loop wants one."""

    def evaluated(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """The trainer has judged the model by itself."""


if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class InteractiveTrainer(_Base):
    """What `interactive` mixes into a Trainer class; set `interaction` before `train`."""

    interaction: Interaction
    evaluates_itself = False  # else a worker judges its checkpoints

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _check_arguments(self.args)
        if self.lr_scheduler is not None and _steps_on_a_metric(self.lr_scheduler):
            raise ValueError("optimizers: give a schedule that steps by itself, not on a metric")
        # A loss that is not a number must be seen, and a restored stream has nothing to skip.
        self.args.logging_nan_inf_filter = False
        self.args.ignore_data_skip = True
        self._has_own_optimizer = self.optimizer is not None
        self.frozen = Frozen()
        self.add_callback(_Boundaries(self))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The run's batches as the loop's loader."""
        return cast("DataLoader[Any]", _Batches(self))

    def authors_dataloader(self) -> DataLoader[Any]:
        """The loader that the Trainer would have without us."""
        return super().get_train_dataloader()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """The author's; over shards, where `fsdp` is asked for and accelerate makes none."""
        if self.args.fsdp and not self.is_fsdp_enabled and self.args.world_size > 1:
            model = model_of(self)
            if self.optimizer is not None:
                raise ValueError("optimizers: leave it out with fsdp; its parameters are replaced")
            shard(model)
            # Its own mark for a model that is wrapped already, so that it adds no DDP.
            cast("Any", model)._is_accelerate_prepared = True
        untyped: Any = super()
        optimizer: Optimizer = untyped.create_optimizer(*args, **kwargs)
        return optimizer

    @override
    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """The live schedule, over the optimizer that the loop steps and its author's schedule."""
        if isinstance(self.lr_scheduler, LiveSchedule):
            return self.lr_scheduler
        if self.lr_scheduler is None and self.args.lr_scheduler_type != SchedulerType.CONSTANT:
            super().create_scheduler(num_training_steps, optimizer)
        schedule = LiveSchedule(
            cast("Optimizer", optimizer or self.optimizer),
            self.lr_scheduler,
            is_hugging_faces=not self._has_own_optimizer,
        )
        self.lr_scheduler = cast("Any", schedule)  # HF's annotation says LambdaLR
        self._created_lr_scheduler = True
        return schedule

    @override
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Hugging Face's, without a trace on the generators that the next steps draw from."""
        with preserved_generators():
            return super().evaluate(*args, **kwargs)

    def _save_checkpoint(self, *_model_and_trial: object) -> None:
        """The loop's own moments, by `save_strategy`, make the run's verified checkpoints."""
        self.interaction.save(self)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Tensor | Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """One micro-batch; its loss is noted."""
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.frozen.drop_gradients()
        self.interaction.observed.add_loss(loss)
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Tensor | float:
        untyped: Any = super()
        grad_norm: Tensor | float = untyped._get_grad_norm(*args, **kwargs)
        self.interaction.observed.set_grad_norm(grad_norm)
        return grad_norm


def interactive(trainer_class: type[Trainer]) -> type[InteractiveTrainer]:
    """`trainer_class` with the same constructor, made to obey its `interaction`."""
    return mixed_in(InteractiveTrainer, trainer_class)


def mixed_in(mixin: type[Mixin], trainer_class: type[Trainer]) -> type[Mixin]:
    """`mixin` over `trainer_class`; who asks for the constructor's signature gets its author's."""

    @wraps(trainer_class.__init__)
    def construct(self: Mixin, *args: Any, **kwargs: Any) -> None:
        mixin.__init__(self, *args, **kwargs)

    name = f"Interactive{trainer_class.__name__}"
    return cast("type[Mixin]", type(name, (mixin, trainer_class), {"__init__": construct}))


def _check_arguments(args: TrainingArguments) -> None:
    """Raises ValueError for what a run of ours can not do as asked."""
    if args.load_best_model_at_end:
        raise ValueError("load_best_model_at_end: leave it out; roll the run back instead")
    if args.auto_find_batch_size:
        raise ValueError("auto_find_batch_size: give per_device_train_batch_size instead")
    if args.lr_scheduler_type in ON_A_METRIC:
        raise ValueError("lr_scheduler_type: give one that steps by itself, not on a metric")


def _steps_on_a_metric(schedule: LRScheduler) -> bool:
    return "metrics" in inspect.signature(schedule.step).parameters


def live_schedule(trainer: Trainer) -> LiveSchedule:
    """The schedule of an interactive trainer."""
    schedule: object = trainer.lr_scheduler
    assert isinstance(schedule, LiveSchedule)
    return schedule


def frozen_of(trainer: Trainer) -> Frozen:
    """The frozen parameters of an interactive trainer."""
    assert isinstance(trainer, InteractiveTrainer)
    return trainer.frozen


def evaluates_itself(trainer: Trainer) -> bool:
    """Whether an interactive trainer judges its model in its own process."""
    assert isinstance(trainer, InteractiveTrainer)
    return trainer.evaluates_itself


def model_of(trainer: Trainer) -> nn.Module:
    """The model, as its author wrote it: not what DDP wraps around it."""
    assert trainer.model is not None
    return trainer.model


class _Batches:
    """The loop's loader: without a length, at its end when the run is."""

    def __init__(self, trainer: InteractiveTrainer) -> None:
        self._trainer = trainer

    def __iter__(self) -> Iterator[Tensors]:
        while batches := self._trainer.interaction.next_step(self._trainer):
            yield from batches


class _Boundaries(TrainerCallback):
    def __init__(self, trainer: InteractiveTrainer) -> None:
        self._trainer = trainer

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self._trainer.optimizer is not None
        self._trainer.interaction.observed.watch(self._trainer.optimizer)
        self._trainer.interaction.before_first_step(self._trainer)

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._trainer.interaction.after_step(self._trainer)

    @override
    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._trainer.interaction.evaluated(self._trainer, kwargs["metrics"])
