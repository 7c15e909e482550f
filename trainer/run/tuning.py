"""Commands on what is learnt and how fast: rate, optimizer, frozen and reset modules.

In: a command and the trainer, between two steps. Out: its effect. Everything that can be refused is
looked at before anything changes; CommandRefused names the argument.
"""

from collections.abc import Iterable

from torch.nn import Parameter
from transformers import Trainer

from ingest.ids import content_id
from trainer.commands.kinds import Freeze, LrChange, ResetParameters, SetLr, SetOptimizer, Unfreeze
from trainer.commands.references import CommandRefused
from trainer.loop.groups import chosen_groups
from trainer.loop.interactive import frozen_of, live_schedule, model_of
from trainer.loop.modules import find_modules, trained_parameters
from trainer.loop.optimizer_settings import change_settings
from trainer.loop.resetting import reset_modules
from trainer.run.aspects import frozen_in, lr_of, optimizer_of
from trainer.run.effect import Effect
from trainer.run.live import LiveRun, Steered

Tuning = SetLr | SetOptimizer | Freeze | Unfreeze | ResetParameters


def check_lr(
    change: LrChange | None, rates: Iterable[float], trainer: Trainer, inside: str = ""
) -> None:
    """Refuse a change that would leave one of these rates, one a group, unusable."""
    if change is None:
        return
    names = live_schedule(trainer).names
    rates = list(rates)
    try:
        for index in chosen_groups(names, change.group):
            change.applied_to(rates[index])
    except CommandRefused as error:
        raise CommandRefused(f"{inside}{error.field}", error.detail) from error
    except ValueError as error:
        field = "value" if change.factor is None else "factor"
        raise CommandRefused(f"{inside}{field}", str(error)) from error


def tune(command: Tuning, run: LiveRun, trainer: Trainer, number: int) -> Effect:
    """Carry one out; `number` is the command's."""
    match command:
        case SetLr():
            return _set_lr(command, trainer)
        case SetOptimizer():
            return _set_optimizer(command, trainer)
        case Freeze() | Unfreeze():
            return _freeze(command, run, trainer)
        case ResetParameters():
            return reset_parameters(command, run, trainer, number)


def _set_lr(command: SetLr, trainer: Trainer) -> Effect:
    """Another rate or schedule from the next step on."""
    before = lr_of(trainer)
    schedule = live_schedule(trainer)
    check_lr(command, schedule.rates, trainer)
    schedule.change(command)
    return Effect(before, lr_of(trainer))


def _set_optimizer(command: SetOptimizer, trainer: Trainer) -> Effect:
    """Other settings from the next step on."""
    before = optimizer_of(trainer)
    schedule = live_schedule(trainer)
    change_settings(schedule.optimizer, schedule.names, command)
    if command.max_grad_norm is not None:
        trainer.args.max_grad_norm = command.max_grad_norm
    return Effect(before, optimizer_of(trainer))


def _freeze(command: Freeze | Unfreeze, run: LiveRun, trainer: Trainer) -> Effect:
    """More, or fewer, parameters that stand still from the next step on."""
    before = frozen_in(trainer)
    named = _trained_in(command, run, trainer)
    frozen = {id(parameter): parameter for parameter in frozen_of(trainer).parameters}
    if isinstance(command, Freeze):
        frozen |= named
    else:
        frozen = {key: parameter for key, parameter in frozen.items() if key not in named}
    if all(id(parameter) in frozen for parameter in trained_parameters(model_of(trainer))):
        raise CommandRefused("modules", "nothing would be left to train; pause the run instead")
    frozen_of(trainer).set(frozen.values())
    return Effect(before, frozen_in(trainer))


def _trained_in(command: Freeze | Unfreeze, run: LiveRun, trainer: Trainer) -> dict[int, Parameter]:
    modules = find_modules(model_of(trainer), command.modules, run.family.changeable_modules)
    named = {name: list(trained_parameters(module)) for name, module in modules.items()}
    untrained = [name for name, parameters in named.items() if not parameters]
    if untrained:
        raise CommandRefused("modules", f"{', '.join(untrained)} has no parameter to be trained")
    return {id(parameter): parameter for found in named.values() for parameter in found}


def reset_parameters(
    command: ResetParameters, run: Steered, trainer: Trainer, number: int
) -> Effect:
    """New parameters for some modules; the seed derives from the command's number."""
    seed = int(content_id(run.run_id, "reset", str(number))[:8], 16)
    modules = find_modules(model_of(trainer), command.modules, run.family.changeable_modules)
    parts = reset_modules(modules, live_schedule(trainer).optimizer, seed)
    return Effect({}, {"reset": parts, "seed": seed})
