"""Rate, optimizer, frozen and reset modules in a real run, judged inside the optimizer's step."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from tests.trainer.asking import Asked, asking, commands
from tests.trainer.stepping import NAMES, Stepped, Steps
from tests.trainer.tiny import TinyFamily, Witness
from trainer.run.training import Workplace

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]

LINE: Asked = ("set_lr", {"schedule": {"shape": "linear", "to": 0.005, "steps": 5}})
LINE_RATES = [0.009, 0.008, 0.007, 0.006, 0.005]
SAVE: Asked = ("save", {"name": "good"})
BACK: Asked = ("rollback", {"checkpoint": "good"})
FIRST = {"layers.0.weight", "layers.0.bias"}


def rates(steps: Steps, group: int = 0) -> list[float]:
    return [step.groups[group]["lr"] for step in steps]


def errors(engine: Engine) -> list[tuple[str, str]]:
    return [(command.state, command.error or "") for command in commands(engine)]


def test_a_schedule_holds_from_the_very_next_step(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    witness.during = asking(engine, {2: [LINE]})
    training(9)
    assert rates(steps) == pytest.approx([0.01, 0.01, *LINE_RATES, 0.005, 0.005])
    assert rates(steps, 1) == rates(steps)


def test_a_value_ends_a_schedule(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    witness.during = asking(engine, {1: [LINE], 3: [("set_lr", {"factor": 0.5})]})
    training(6)
    assert rates(steps) == pytest.approx([0.01, 0.009, 0.008, 0.0035, 0.0035, 0.0035])


def test_one_group_is_named_and_the_other_stays(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    witness.during = asking(engine, {1: [("set_lr", {"value": 0.5, "group": "no_decay"})]})
    training(3)
    assert rates(steps) == [0.01] * 3
    assert rates(steps, 1) == [0.01, 0.5, 0.5]


def test_an_unknown_group_is_rejected_and_those_there_are_named(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {1: [("set_lr", {"value": 0.5, "group": "head"})]})
    training(3)
    assert errors(engine) == [
        ("rejected", "group: the optimizer has no group 'head'; it has decay, no_decay")
    ]


def test_a_rollback_goes_back_into_the_midst_of_a_schedule(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    witness.during = asking(engine, {1: [LINE], 3: [SAVE], 5: [("set_lr", {"value": 1.0}), BACK]})
    training(8)
    assert rates(steps)[:5] == pytest.approx([0.01, *LINE_RATES[:4]])
    assert rates(steps)[5:] == pytest.approx([*LINE_RATES[2:], 0.005, 0.005])


def test_a_rollback_may_begin_a_schedule(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    back: Asked = ("rollback", {"checkpoint": "good", "set_lr": LINE[1]})
    witness.during = asking(engine, {2: [SAVE], 3: [("set_lr", {"value": 1.0})], 4: [back]})
    training(7)
    assert rates(steps) == pytest.approx([0.01, 0.01, 0.01, 1.0, *LINE_RATES])


def test_what_was_tuned_survives_a_stop(
    training: Training, witness: Witness, steps: Steps, engine: Engine, place: Workplace
) -> None:
    script = asking(engine, {1: [LINE, *TUNED]})

    def during(count: int) -> None:
        script(count)
        if count == 3:
            place.stop_asked.set()

    witness.during = during
    assert training(10) == "stopped"
    place.stop_asked.clear()
    witness.during = lambda _count: None
    training(10)
    assert rates(steps) == pytest.approx([0.01, *LINE_RATES, *[0.005] * 4])
    assert all(is_tuned(step) for step in steps[1:])
    assert all(step.moved.isdisjoint(FIRST) for step in steps[1:])


TUNED: list[Asked] = [
    ("set_optimizer", {"betas": [0.5, 0.75], "eps": 1e-4, "max_grad_norm": 1e-3}),
    ("set_optimizer", {"weight_decay": 0.5}),
    ("freeze", {"modules": ["layers.0"]}),
]


def is_tuned(step: Stepped) -> bool:
    first, second = step.groups
    return (
        (first["betas"], first["eps"], first["weight_decay"]) == ((0.5, 0.75), 1e-4, 0.5)
        and (second["betas"], second["eps"], second["weight_decay"]) == ((0.5, 0.75), 1e-4, 0.0)
        and step.norm <= 1.01e-3
        and step.graded.isdisjoint(FIRST)
    )


def test_the_optimizer_s_settings_hold_from_the_next_step(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    witness.during = asking(engine, {2: TUNED})
    training(4)
    assert [is_tuned(step) for step in steps] == [False, False, True, True]


def test_a_rollback_restores_what_was_tuned(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    """Before it was tuned, and after."""
    early: Asked = ("rollback", {"checkpoint": "early"})
    late: Asked = ("rollback", {"checkpoint": "late"})
    script = {
        1: [("save", {"name": "early"})],
        2: [*TUNED, ("save", {"name": "late"})],
        3: [early],
        4: [late],
    }
    witness.during = asking(engine, script)
    training(4)
    assert [is_tuned(step) for step in steps] == [False, False, True, False, True, True]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"eps": 1e-4}, "eps: SGD has no such setting; it has weight_decay, momentum"),
        ({"betas": [0.1, 0.2]}, "betas: SGD has no such setting; it has weight_decay, momentum"),
        ({"momentum": 0.5, "eps": 1e-4}, "eps: SGD has no such setting"),
        ({"momentum": 0.5, "group": "nobody"}, "group: the optimizer has no group 'nobody'"),
    ],
)
def test_what_the_optimizer_lacks_is_rejected_and_nothing_is_set(
    training: Training,
    family: TinyFamily,
    steps: Steps,
    engine: Engine,
    *,
    asked: dict[str, object],
    reason: str,
) -> None:
    family.arguments = {"optim": "sgd"}
    family.witness.during = asking(engine, {1: [("set_optimizer", asked)]})
    assert training(3) == "finished"
    [(state, error)] = errors(engine)
    assert state == "rejected"
    assert error.startswith(reason)
    assert steps[0].groups == steps[2].groups


def test_sgd_s_momentum_is_set(
    training: Training, family: TinyFamily, steps: Steps, engine: Engine
) -> None:
    family.arguments = {"optim": "sgd"}
    family.witness.during = asking(engine, {1: [("set_optimizer", {"momentum": 0.5})]})
    training(3)
    assert [step.groups[0]["momentum"] for step in steps] == [0, 0.5, 0.5]


def test_a_momentum_that_would_break_the_next_step_is_rejected(
    training: Training, family: TinyFamily, engine: Engine
) -> None:
    """RMSprop makes the buffer in its first step or never."""
    family.arguments = {"optim": "rmsprop"}
    family.witness.during = asking(engine, {1: [("set_optimizer", {"momentum": 0.5})]})
    assert training(3) == "finished"
    [(state, error)] = errors(engine)
    assert (state, "RMSprop can't begin" in error) == ("rejected", True)


def test_a_frozen_parameter_does_not_move_by_a_bit(
    training: Training, family: TinyFamily, steps: Steps, engine: Engine
) -> None:
    """Under AdamW's weight decay, with moments that would still push it."""
    family.arguments = {"weight_decay": 0.1}
    script = {
        2: [("freeze", {"modules": ["layers.0"]})],
        5: [("unfreeze", {"modules": ["layers"]})],
    }
    family.witness.during = asking(engine, script)
    training(7)
    frozen = steps[2:5]
    assert all(step.moved == set(NAMES) for step in (*steps[:2], *steps[5:]))
    assert all(step.moved == set(NAMES) - FIRST for step in frozen)
    assert all(step.graded == set(NAMES) - FIRST for step in frozen)
    for name in FIRST:
        assert {step.after[name] for step in frozen} == {steps[1].after[name]}


def test_a_part_of_what_is_frozen_may_be_unfrozen(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    whole: Asked = ("freeze", {"modules": ["layers.0", "layers.2"]})
    freeze, part = ("freeze", {"modules": ["layers.0"]}), ("unfreeze", {"modules": ["layers.0"]})
    witness.during = asking(engine, {1: [freeze, part], 2: [whole]})
    training(3)
    assert [step.moved for step in steps] == [set(NAMES)] * 3
    assert [command.after_json for command in commands(engine)] == [
        '{"frozen": ["layers.0"]}',
        '{"frozen": []}',
        None,
    ]


@pytest.mark.parametrize("kind", ["freeze", "unfreeze", "reset_parameters"])
def test_unknown_modules_are_rejected_by_name(
    training: Training, witness: Witness, engine: Engine, kind: str
) -> None:
    witness.during = asking(engine, {1: [(kind, {"modules": ["layers.0", "head", "layers.9"]})]})
    training(3)
    assert errors(engine) == [
        ("rejected", "modules: no module to be changed is called 'head', 'layers.9'")
    ]


@pytest.mark.parametrize(
    ("kind", "modules", "reason"),
    [
        ("freeze", ["layers"], "nothing would be left to train"),
        ("freeze", ["layers.0", "layers.2"], "nothing would be left to train"),
        ("freeze", ["layers.1"], "layers.1 has no parameter to be trained"),
        ("reset_parameters", ["layers.0", "layers.1"], "no part of layers.1 has reset_parameters"),
    ],
)
def test_modules_for_which_it_makes_no_sense_are_rejected(
    training: Training,
    witness: Witness,
    steps: Steps,
    engine: Engine,
    *,
    kind: str,
    modules: list[str],
    reason: str,
) -> None:
    witness.during = asking(engine, {1: [(kind, {"modules": modules})]})
    assert training(3) == "finished"
    [(state, error)] = errors(engine)
    assert (state, reason in error) == ("rejected", True)
    assert all(step.moved == set(NAMES) for step in steps)


def test_a_family_may_name_fewer_modules(
    training: Training, family: TinyFamily, engine: Engine
) -> None:
    family.changeable_modules = {"layers.0"}
    asked: list[Asked] = [("freeze", {"modules": [name]}) for name in ("layers.0", "layers.2")]
    family.witness.during = asking(engine, {1: asked})
    training(3)
    assert [state for state, _ in errors(engine)] == ["applied", "rejected"]


def test_a_reset_module_starts_anew_and_the_optimizer_forgets_it(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    witness.during = asking(engine, {3: [("reset_parameters", {"modules": ["layers.2"]})]})
    training(5)
    reset = {"layers.2.weight", "layers.2.bias"}
    changed = {name for name in NAMES if steps[2].after[name] != steps[3].before[name]}
    assert changed == reset
    assert {name for name, age in steps[3].ages.items() if age == 0} == reset
    assert steps[3].moved == set(NAMES)
    [command] = commands(engine)
    assert '"reset": ["layers.2"]' in (command.after_json or "")
