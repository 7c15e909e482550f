"""A policy file: which commands answer which signals of a run's health, and how often.

In: TOML with one `[[rule]]` after the other:

    [[rule]]
    name = "rescue"
    on = ["divergence", "not_finite"]
    at_most = 3
    cooldown_steps = 50
    command = { kind = "rollback", set_lr = { factor = 0.3 } }

Out: a frozen `Policy`, or PolicyRefused that names the file, the field and the fix. A command is
any one that a run takes. A rollback names no checkpoint: it goes to the newest one of the line from
before the signal, and the factor of its `set_lr` is on the lr in force then, so that a second
rescue from the same checkpoint goes below the first. No torch: the API reads this, too.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from trainer.commands.kinds import AnyCommand, Label, parse

SignalName = Literal[
    "not_finite",
    "divergence",
    "loss_spike",
    "grad_norm_spike",
    "update_ratio",
    "plateau",
    "throughput_drop",
    "starvation",
]


class PolicyRefused(ValueError):
    """A policy file that is none: which file, which field, and the fix."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Rule(_Strict):
    """One command that answers signals, at most so often, with a pause between the answers."""

    name: Label
    on: Annotated[list[SignalName], Field(min_length=1)]
    at_most: Annotated[int, Field(ge=1, le=1_000)]
    cooldown_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    command: dict[str, Any]

    @field_validator("command")
    @classmethod
    def _is_one(cls, command: dict[str, Any]) -> dict[str, Any]:
        kind = str(command.get("kind"))
        given = {name: value for name, value in command.items() if name != "kind"}
        chosen_later = {"checkpoint", "branch"} & set(given)
        if kind == "rollback" and chosen_later:
            raise ValueError(f"{min(chosen_later)}: leave it out, each answer chooses its own")
        try:
            parse(kind, given | ({"checkpoint": "newest"} if kind == "rollback" else {}))
        except ValidationError as error:
            raise ValueError(_explained(error, skip=1)) from error
        return command

    @property
    def actor(self) -> str:
        """Who asks, as it stands in the command log."""
        return f"policy:{self.name}"

    def answer(self, checkpoint: str, lr: float) -> AnyCommand:
        """The command; `checkpoint` and `lr` are for a rollback. Raises ValidationError."""
        args = {name: value for name, value in self.command.items() if name != "kind"}
        if self.command["kind"] == "rollback":
            args["checkpoint"] = checkpoint
            if set(args.get("set_lr", {})) == {"factor"}:
                args["set_lr"] = {"value": lr * args["set_lr"]["factor"]}
        return parse(self.command["kind"], args)


class Policy(_Strict):
    """Rules in order: the first that may answer a signal does."""

    rule: Annotated[list[Rule], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [rule.name for rule in self.rule]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"name: {name!r} is taken twice; answers are counted by name")
        return self


def read_policy(path: Path) -> Policy:
    """The policy in a file. Raises PolicyRefused."""
    try:
        return Policy.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyRefused(f"policy {path}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise PolicyRefused(f"policy {path}: is no TOML: {error}") from error
    except ValidationError as error:
        raise PolicyRefused(f"policy {path}: {_explained(error)}") from error


def _explained(error: ValidationError, *, skip: int = 0) -> str:
    """Each wrong field with the fix, its path without the parts that nobody wrote."""
    problems = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"][skip:])
        says = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{where}: {says}" if where else says)
    return "; ".join(problems)
