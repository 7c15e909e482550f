"""What may be asked of a run, and what is refused by its shape alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainer.commands.kinds import MAX_LR, LrChange, Rollback, SetLr, parse

COURSE = {"shape": "linear", "to": 0.1, "steps": 10}

REFUSED = {
    "an unknown kind": ("explode", {}),
    "no argument where one is needed": ("set_lr", {}),
    "value and factor at once": ("set_lr", {"value": 0.1, "factor": 2.0}),
    "lr 0": ("set_lr", {"value": 0.0}),
    "a negative lr": ("set_lr", {"value": -1.0}),
    "an lr that is not a number": ("set_lr", {"value": math.nan}),
    "an infinite lr": ("set_lr", {"value": math.inf}),
    "a huge lr": ("set_lr", {"value": 1e9}),
    "a text as lr": ("set_lr", {"value": "0.1"}),
    "true as lr": ("set_lr", {"value": True}),
    "an infinite factor": ("set_lr", {"factor": math.inf}),
    "an unknown argument": ("pause", {"minutes": 5}),
    "a mix version 0": ("set_mix", {"name": "m", "version": 0}),
    "a path as checkpoint": ("rollback", {"checkpoint": "../../etc/passwd"}),
    "a branch with a capital": ("rollback", {"checkpoint": "c", "branch": "Main"}),
    "a branch of 65 letters": ("rollback", {"checkpoint": "c", "branch": "b" * 65}),
    "a bad lr inside a rollback": ("rollback", {"checkpoint": "c", "set_lr": {"value": -1.0}}),
    "a rate and a schedule at once": ("set_lr", {"value": 0.1, "schedule": COURSE}),
    "a schedule of no steps": ("set_lr", {"schedule": COURSE | {"steps": 0}}),
    "a schedule to 0": ("set_lr", {"schedule": COURSE | {"to": 0.0}}),
    "a schedule of an unknown shape": ("set_lr", {"schedule": COURSE | {"shape": "square"}}),
    "nothing but a warm-up": ("set_lr", {"schedule": COURSE | {"warm_up_steps": 10}}),
    "no setting of the optimizer": ("set_optimizer", {"group": "decay"}),
    "one beta": ("set_optimizer", {"betas": [0.9]}),
    "a beta of 1": ("set_optimizer", {"betas": [0.9, 1.0]}),
    "betas as texts": ("set_optimizer", {"betas": ["0.9", "0.95"]}),
    "a group's own norm": ("set_optimizer", {"max_grad_norm": 1.0, "group": "decay"}),
    "no modules": ("freeze", {"modules": []}),
    "a module as a text": ("freeze", {"modules": "layers"}),
    "a mix by name and weights": ("set_mix", {"name": "m", "weights": {"old": 1.0}}),
    "a version of weights": ("set_mix", {"version": 1, "weights": {"old": 1.0}}),
    "a negative weight": ("set_mix", {"weights": {"old": -1.0}}),
    "a name that starts with a dot": ("save", {"name": ".hidden"}),
    "a name with a newline at its end": ("save", {"name": "a\n"}),
}


@pytest.mark.parametrize(("kind", "arguments"), REFUSED.values(), ids=REFUSED)
def test_a_bad_command_is_refused(kind: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        parse(kind, arguments)


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(ValidationError) as refusal:
        parse("rollback", {"checkpoint": "c", "set_lr": {"value": -1.0}})
    assert refusal.value.errors()[0]["loc"][-2:] == ("set_lr", "value")


def test_arguments_come_back_as_they_were_given() -> None:
    arguments = {"checkpoint": "good", "set_lr": {"factor": 0.5}, "hold_data": True}
    command = parse("rollback", arguments)
    assert isinstance(command, Rollback)
    assert command.arguments() == arguments


def test_a_factor_scales_the_rate_in_force() -> None:
    assert LrChange(factor=0.5).applied_to(0.2) == 0.1


def test_a_factor_never_leads_beyond_the_largest_rate() -> None:
    with pytest.raises(ValueError, match="must be > 0 and <= 10"):
        LrChange(factor=1000.0).applied_to(0.1)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_only_usable_rates_are_accepted(value: float) -> None:
    try:
        command = parse("set_lr", {"value": value})
    except ValidationError:
        assert not 0 < value <= MAX_LR
    else:
        assert isinstance(command, SetLr)
        assert command.value == value
        assert 0 < value <= MAX_LR
