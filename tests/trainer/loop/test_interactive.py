"""Any Trainer class becomes interactive, and keeps what its author wrote."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from tests.trainer.tiny import WIDTH, TinyModel, Witness
from trainer.family import Tensors
from trainer.loop.interactive import InteractiveTrainer, interactive, live_schedule
from trainer.loop.observed import ObservedStep
from trainer.ranks.alone import Alone


class Calm:
    """An interaction that asks for nothing and hands out three steps of two micro-batches."""

    def __init__(self) -> None:
        self.observed = ObservedStep(Alone())
        self.boundaries: list[str] = []

    def before_first_step(self, _trainer: transformers.Trainer) -> None:
        self.boundaries.append("first")

    def next_step(self, _trainer: transformers.Trainer) -> list[Tensors]:
        self.observed.take_batch(np.arange(4))
        return [{"x": torch.ones(2, WIDTH)}] * 2 if len(self.boundaries) < 4 else []

    def save(self, _trainer: transformers.Trainer) -> None: ...

    def evaluated(self, _trainer: transformers.Trainer, _metrics: Mapping[str, float]) -> None: ...

    def after_step(self, trainer: transformers.Trainer) -> None:
        self.boundaries.append(f"after {trainer.state.global_step}")
        if trainer.state.global_step == 3:
            trainer.control.should_training_stop = True


class Authors(transformers.Trainer):
    """Somebody's own trainer, with a loss of its own."""

    num_losses = 0

    def compute_loss(self, *args: object, **kwargs: object) -> Tensor:
        self.num_losses += 1
        return super().compute_loss(*args, **kwargs)


def arguments(folder: Path, **changed: object) -> transformers.TrainingArguments:
    usual = {
        "max_steps": 100,
        "lr_scheduler_type": "constant",
        "gradient_accumulation_steps": 2,
        "report_to": [],
        "use_cpu": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return transformers.TrainingArguments(output_dir=str(folder), **(usual | changed))


def trained(folder: Path) -> InteractiveTrainer:
    trainer_class = interactive(Authors)
    trainer = trainer_class(TinyModel(Witness()), arguments(folder))
    trainer.interaction = Calm()
    trainer.train()
    return trainer


def test_its_author_s_overrides_stay_in_force(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    assert isinstance(trainer, Authors)
    assert trainer.num_losses == 6


def test_every_boundary_is_handed_over_once(tmp_path: Path) -> None:
    interaction = trained(tmp_path).interaction
    assert isinstance(interaction, Calm)
    assert interaction.boundaries == ["first", "after 1", "after 2", "after 3"]


def test_its_rate_is_live(tmp_path: Path) -> None:
    assert live_schedule(trained(tmp_path)).rates == [5e-5, 5e-5]


def test_a_loss_that_is_not_a_number_is_not_filtered(tmp_path: Path) -> None:
    assert trained(tmp_path).args.logging_nan_inf_filter is False


def test_a_schedule_that_waits_for_a_metric_is_refused(tmp_path: Path) -> None:
    trainer_class = interactive(transformers.Trainer)
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps"}
    with pytest.raises(ValueError, match="lr_scheduler_type: give one that steps by itself"):
        trainer_class(TinyModel(Witness()), arguments(tmp_path, **plateau), eval_dataset=[])
    model = TinyModel(Witness())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    own = (optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer))
    with pytest.raises(ValueError, match="optimizers: give a schedule that steps by itself"):
        trainer_class(model, arguments(tmp_path), optimizers=own)


def test_a_batch_size_that_changes_by_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give per_device_train_batch_size"):
        interactive(transformers.Trainer)(
            TinyModel(Witness()), arguments(tmp_path, auto_find_batch_size=True)
        )


def test_its_author_s_schedule_leads_until_a_command_comes(tmp_path: Path) -> None:
    trainer = interactive(Authors)(
        TinyModel(Witness()), arguments(tmp_path, lr_scheduler_type="linear")
    )
    trainer.interaction = Calm()
    trainer.train()
    assert live_schedule(trainer).rates == pytest.approx([5e-5 * 97 / 100] * 2)
