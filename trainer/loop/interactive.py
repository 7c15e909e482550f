"""A transformers.Trainer that obeys commands at step boundaries; Hugging Face's loop as it is.

In: any Trainer class. Out: a subclass with the same constructor and one more argument. What it
changes: batches come from our stream, not prepared by accelerate (whose loader looks one batch
ahead, so that a new mix would come a batch late); the learning rate lives in a `LiveSchedule`;
frozen parameters lose their gradients; a callback hands every boundary over. No line of the loop
is copied.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from trainer.family import Tensors
from trainer.loop.frozen import Frozen
from trainer.loop.observed import ObservedStep
from trainer.loop.schedule import LiveSchedule


class Interaction(Protocol):
    """What a run does with its trainer; `trainer.run.boundary.Boundary` is the real one."""

    observed: ObservedStep

    def before_first_step(self, trainer: Trainer) -> None:
        """The boundary before the first step, with optimizer and scheduler in place."""

    def next_step(self, trainer: Trainer) -> list[Tensors]:
        """The next step's micro-batches; none once the run ends."""

    def after_step(self, trainer: Trainer) -> None:
        """The boundary after a step."""


if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class InteractiveTrainer(_Base):
    """What `make_interactive` mixes into a Trainer class."""

    def __init__(self, *args: Any, interaction: Interaction, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.lr_scheduler_type != "constant":
            raise ValueError("lr_scheduler_type: give 'constant'; the rate changes by commands")
        # A loss that is not a number must be seen, and a restored stream has nothing to skip.
        self.args.logging_nan_inf_filter = False
        self.args.ignore_data_skip = True
        self._has_own_optimizer = self.optimizer is not None
        self.interaction = interaction
        self.frozen = Frozen()
        self.add_callback(_Boundaries(self))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Our stream as the loop's loader."""
        return cast("DataLoader[Any]", _Batches(self))

    @override
    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """The live schedule, over the optimizer that the loop steps."""
        if self.lr_scheduler is None:
            schedule = LiveSchedule(
                cast("Optimizer", optimizer or self.optimizer),
                is_hugging_faces=not self._has_own_optimizer,
            )
            self.lr_scheduler = cast("Any", schedule)  # HF's annotation says LambdaLR
            self._created_lr_scheduler = True
        return live_schedule(self)

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


def make_interactive(trainer_class: type[Trainer]) -> type[InteractiveTrainer]:
    """`trainer_class` as an interactive one: same constructor, and `interaction=`."""
    name = f"Interactive{trainer_class.__name__}"
    return cast("type[InteractiveTrainer]", type(name, (InteractiveTrainer, trainer_class), {}))


def live_schedule(trainer: Trainer) -> LiveSchedule:
    """The schedule of an interactive trainer."""
    schedule: object = trainer.lr_scheduler
    assert isinstance(schedule, LiveSchedule)
    return schedule


def frozen_of(trainer: Trainer) -> Frozen:
    """The frozen parameters of an interactive trainer."""
    assert isinstance(trainer, InteractiveTrainer)
    return trainer.frozen


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
