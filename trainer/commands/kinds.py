"""What may be asked of a run: one closed union of commands, each with its own bounds.

In: a kind and its arguments as JSON gave them. Out: a frozen model, or pydantic's ValidationError
that names the field. Types are strict ("0.1" is no number, true is no 1) and unknown arguments are
refused, so that a mistyped one is never silently ignored. No torch here: the API reads this too.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from trainer.commands.course import Course, Shape

MAX_LR = 10.0
MAX_STEPS = 1_000_000_000

Rate = Annotated[float, Field(gt=0, le=MAX_LR, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
BranchName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
Note = Annotated[str, StringConstraints(max_length=500)]
# What a module or a parameter group is called is its author's to choose.
GivenName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
NumSteps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def arguments(self) -> dict[str, Any]:
        """The given arguments as JSON values, without the kind."""
        return self.model_dump(mode="json", exclude={"kind"}, exclude_none=True)


class LrSchedule(_Strict):
    """A course of the rate over the next `steps`, ending at `to`, where it stays.

    `warm_up_steps` of them first rise from 0: to `to` if the shape is constant, else to the rate
    in force, from which the rest leads to `to`.
    """

    shape: Shape
    to: Rate
    steps: NumSteps
    warm_up_steps: Annotated[int, Field(ge=0, lt=MAX_STEPS)] = 0

    @model_validator(mode="after")
    def _warms_up_within(self) -> Self:
        if self.warm_up_steps >= self.steps:
            raise ValueError("warm_up_steps: give fewer than steps")
        return self

    def course(self, start: float) -> Course:
        """The course from the rate in force on, at its first step."""
        return Course(self.shape, start, self.to, self.steps, self.warm_up_steps)


class LrChange(_Strict):
    """A new learning rate: an absolute `value`, a `factor` on the one in force, or a `schedule`.

    It is for one parameter group by its name, or for all.
    """

    value: Rate | None = None
    factor: Factor | None = None
    schedule: LrSchedule | None = None
    group: GivenName | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if sum(given is not None for given in (self.value, self.factor, self.schedule)) != 1:
            raise ValueError("give one of value, factor and schedule")
        return self

    def applied_to(self, lr: float) -> float:
        """The rate of the very next step after `lr`; ValueError when it is no usable rate."""
        if self.schedule is not None:
            return self.schedule.course(lr).rate
        after = lr * self.factor if self.factor is not None else self.value
        assert after is not None
        if not 0 < after <= MAX_LR:
            raise ValueError(f"the lr would become {after:g}; it must be > 0 and <= {MAX_LR:g}")
        return after


class MixChange(_Strict):
    """Another mix: by name, in its newest version unless one is named; or its `weights` by slice.

    Weights become the next version of a mix of the run's own when the command is stored.
    """

    name: Label | None = None
    version: Annotated[int, Field(ge=1)] | None = None
    weights: Annotated[dict[GivenName, Share], Field(min_length=1, max_length=100)] | None = None

    @model_validator(mode="after")
    def _named_or_weighed(self) -> Self:
        if (self.name is None) == (self.weights is None):
            raise ValueError("give either name or weights")
        if self.weights is not None and self.version is not None:
            raise ValueError("version: goes with a name, weights make a version of their own")
        return self


class SetLr(LrChange):
    """Change the learning rate from the very next step on."""

    kind: Literal["set_lr"] = "set_lr"


class SetOptimizer(_Strict):
    """Change what the optimizer at hand has of these, in one parameter group or in all.

    `weight_decay` for all leaves the group `no_decay` at 0: biases and norms, which Hugging Face
    sets apart. `max_grad_norm` is the whole model's; 0 clips nothing.
    """

    kind: Literal["set_optimizer"] = "set_optimizer"
    # JSON has no tuples, so the list is taken for one.
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] | None = None
    eps: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    momentum: Decay | None = None
    max_grad_norm: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    group: GivenName | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.group_settings() or self.max_grad_norm is not None):
            raise ValueError("give one of betas, eps, weight_decay, momentum, max_grad_norm")
        if self.group is not None and self.max_grad_norm is not None:
            raise ValueError("max_grad_norm: is the whole model's; ask for it without group")
        return self

    def group_settings(self) -> dict[str, Any]:
        """What is to be set in parameter groups, by its key there."""
        return self.model_dump(exclude={"kind", "max_grad_norm", "group"}, exclude_none=True)


class _OfModules(_Strict):
    modules: Annotated[list[GivenName], Field(min_length=1, max_length=1_000)]


class Freeze(_OfModules):
    """Let the parameters of these modules stand still."""

    kind: Literal["freeze"] = "freeze"


class Unfreeze(_OfModules):
    """Let the parameters of these modules move again."""

    kind: Literal["unfreeze"] = "unfreeze"


class ResetParameters(_OfModules):
    """Start these modules anew, where they or their children know how to."""

    kind: Literal["reset_parameters"] = "reset_parameters"


class SetMix(MixChange):
    """Draw from another mix, from the very next batch on."""

    kind: Literal["set_mix"] = "set_mix"


class Pause(_Strict):
    """Wait at the next step boundary; commands go on being applied."""

    kind: Literal["pause"] = "pause"


class Resume(_Strict):
    """Go on after a pause."""

    kind: Literal["resume"] = "resume"


class Stop(_Strict):
    """Save and end the run at the next step boundary."""

    kind: Literal["stop"] = "stop"


class Save(_Strict):
    """Write a checkpoint; without a name it is called after its branch and step.

    One that is not to be kept goes as the automatic ones do, when newer ones have come.
    """

    kind: Literal["save"] = "save"
    name: Label | None = None
    note: Note = ""
    keep: bool = True


class Rollback(_Strict):
    """Go back to a checkpoint (its id or name) on a new branch.

    `hold_data` takes over the buffer's revisions where the line after the checkpoint did the first
    time, so that its losses and samples repeat exactly.
    """

    kind: Literal["rollback"] = "rollback"
    checkpoint: Label
    branch: BranchName | None = None
    set_lr: LrChange | None = None
    set_mix: MixChange | None = None
    hold_data: bool = False


class Evaluate(_Strict):
    """Judge the model of this very step on a suite, in another process."""

    kind: Literal["evaluate"] = "evaluate"
    suite: Label


class Undo(_Strict):
    """Restore what a command, the latest of its kind on the branch, found before it."""

    kind: Literal["undo"] = "undo"
    command: Label


AnyCommand = Annotated[
    SetLr
    | SetOptimizer
    | SetMix
    | Pause
    | Resume
    | Stop
    | Save
    | Rollback
    | Evaluate
    | Freeze
    | Unfreeze
    | ResetParameters
    | Undo,
    Field(discriminator="kind"),
]
_COMMANDS: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)


def parse(kind: str, arguments: dict[str, Any]) -> AnyCommand:
    """A command from its kind and arguments.

    Raises pydantic.ValidationError naming the field.
    """
    return _COMMANDS.validate_python({**arguments, "kind": kind})
