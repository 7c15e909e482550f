"""What may be asked of a run: one closed union of commands, each with its own bounds.

In: a kind and its arguments as JSON gave them. Out: a frozen model, or pydantic's ValidationError
that names the field. Types are strict ("0.1" is no number, true is no 1) and unknown arguments are
refused, so that a mistyped one is never silently ignored. No torch here: the API reads this too.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

MAX_LR = 10.0

Rate = Annotated[float, Field(gt=0, le=MAX_LR, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
BranchName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
Note = Annotated[str, StringConstraints(max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def arguments(self) -> dict[str, Any]:
        """The given arguments as JSON values, without the kind."""
        return self.model_dump(mode="json", exclude={"kind"}, exclude_none=True)


class LrChange(_Strict):
    """A new learning rate: an absolute `value`, or a `factor` on the one in force."""

    value: Rate | None = None
    factor: Factor | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.value is None) == (self.factor is None):
            raise ValueError("give either value or factor")
        return self

    def applied_to(self, lr: float) -> float:
        """The rate that follows `lr`; ValueError when it is no usable rate."""
        after = lr * self.factor if self.factor is not None else self.value
        assert after is not None
        if not 0 < after <= MAX_LR:
            raise ValueError(f"the lr would become {after:g}; it must be > 0 and <= {MAX_LR:g}")
        return after


class MixChange(_Strict):
    """Another mix, by name; the newest version unless one is named."""

    name: Label
    version: Annotated[int, Field(ge=1)] | None = None


class SetLr(LrChange):
    """Change the learning rate of every parameter group."""

    kind: Literal["set_lr"] = "set_lr"


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
    """Write a checkpoint; without a name it is called after its branch and step."""

    kind: Literal["save"] = "save"
    name: Label | None = None
    note: Note = ""


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


AnyCommand = Annotated[
    SetLr | SetMix | Pause | Resume | Stop | Save | Rollback | Evaluate,
    Field(discriminator="kind"),
]
_COMMANDS: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)


def parse(kind: str, arguments: dict[str, Any]) -> AnyCommand:
    """A command from its kind and arguments.

    Raises pydantic.ValidationError naming the field.
    """
    return _COMMANDS.validate_python({**arguments, "kind": kind})
