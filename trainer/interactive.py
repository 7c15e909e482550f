"""Any transformers.Trainer becomes interactive: `Trainer = make_interactive(transformers.Trainer)`.

In: a Trainer class, anybody's. Out: the same constructor and the same `train`; while it trains,
people, scripts and agents change it through the API at its step boundaries. With the user's own
dataset every command works but `set_mix`.
"""

import atexit
import gc
import sys
from functools import cache
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, TrainOutput
from typing_extensions import override

from trainer.loop.interactive import InteractiveTrainer, mixed_in
from trainer.run.dataset_supply import DatasetSupply
from trainer.run.own import OwnRun, own_run


class OwnTrainer(InteractiveTrainer):
    """What `make_interactive` mixes into a Trainer class: each `train` is a run of its own."""

    evaluates_itself = True

    @override
    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: object = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Hugging Face's; `resume_from_checkpoint=True` goes on where the run was.

        Raises RunFinished where it has taken all its steps, and ValueError where there is none.
        """
        if trial is not None:
            raise ValueError("trial: a search is many runs; start each by a Trainer of its own")
        asked_steps = self.args.max_steps
        try:
            with own_run(self, resume_from_checkpoint) as run:
                return self._train_under(run, ignore_keys_for_eval)
        finally:
            self.args.max_steps = asked_steps

    def _train_under(self, run: OwnRun, ignore_keys_for_eval: list[str] | None) -> TrainOutput:
        self.interaction = run.boundary
        epochs = _Epochs(run.supply)
        self.add_callback(epochs)
        try:
            output: TrainOutput = super().train(ignore_keys_for_eval=ignore_keys_for_eval)
            run.boundary.finish(self)
        finally:
            self.remove_callback(epochs)
        return output


def make_interactive(trainer_class: type[Trainer]) -> type[OwnTrainer]:
    """`trainer_class` as an interactive one, with the same constructor and the same `train`."""
    _spare_what_is_imported()
    return mixed_in(OwnTrainer, trainer_class)


@cache
def _spare_what_is_imported() -> None:
    """Look no more for garbage in a million objects of modules, which live as long as the process.

    That takes 0.5 s, in the midst of a step, and 1.3 s of the process's end. What its author makes
    of these modules, files to be flushed among it, is collected as ever.
    """
    gc.collect()
    gc.freeze()
    atexit.register(_let_go_of_triton)


def _let_go_of_triton() -> None:
    """Its bindings would report all that is not collected, a page long, as leaked."""
    if "triton" in sys.modules:
        gc.unfreeze()


class _Epochs(TrainerCallback):
    """Epochs as the dataset has them: the loop sees one without an end."""

    def __init__(self, supply: DatasetSupply) -> None:
        self._supply = supply
        self._epoch = int(supply.epoch)

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        state.epoch = self._supply.epoch
        before, self._epoch = self._epoch, int(state.epoch)
        if self._epoch > before and state.global_step < state.max_steps:
            control.should_log |= args.logging_strategy == IntervalStrategy.EPOCH
            control.should_evaluate |= args.eval_strategy == IntervalStrategy.EPOCH
            control.should_save |= args.save_strategy == SaveStrategy.EPOCH
