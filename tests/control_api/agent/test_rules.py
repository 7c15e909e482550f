"""The rule-based twin: observations in, one action out; pure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.agent.actions import Ask, Done, Wait
from control_api.agent.observation import Allowance, Checkpoint, Observation, Point
from control_api.agent.rules import (
    MOST_ANNEALS,
    MOST_REFUSALS,
    MOST_RESCUE_FACTOR,
    MOST_RESCUES,
    decide,
)
from tests.control_api.agent.looks import asked, look, points, started
from trainer.commands.kinds import parse

LOST = [3.0] * 20 + [90.0] * 12
PLATEAU = {"on": ("plateau",), "signals": (started("plateau", 300),)}


def asks(seen: Observation) -> Ask:
    action = decide([seen])
    assert isinstance(action, Ask), action
    return action


def test_a_run_that_is_well_is_left_alone() -> None:
    assert isinstance(decide([look()]), Wait)


def test_a_run_in_trouble_goes_back_to_the_start_with_a_tenth_of_the_rate() -> None:
    ask = asks(look(recent=LOST))
    assert (ask.kind, dict(ask.args)) == (
        "rollback",
        {"checkpoint": "main-0", "set_lr": {"value": 0.1}},
    )
    assert "the last losses are about 90" in ask.reason


def test_a_checkpoint_at_which_something_was_learnt_is_better_than_the_start() -> None:
    checkpoints = (
        Checkpoint("late", "main", 60, 1.0),
        Checkpoint("good", "main", 30, 1.0),
        Checkpoint("main-0", "main", 0, 1.0),
    )
    losses = points([3.0] * 48 + [90.0] * 16, 64)
    ask = asks(look(recent=LOST, losses=losses, checkpoints=checkpoints))
    assert ask.args["checkpoint"] == "good"


def test_a_checkpoint_of_a_run_that_had_learnt_nothing_is_passed_over() -> None:
    checkpoints = (Checkpoint("bad", "main", 30, 1.0), Checkpoint("main-0", "main", 0, 1.0))
    losses = points([4.0] * 48 + [90.0] * 16, 64)
    ask = asks(look(recent=LOST, losses=losses, checkpoints=checkpoints))
    assert ask.args["checkpoint"] == "main-0"


def test_a_checkpoint_that_did_not_help_twice_gives_way_to_the_start() -> None:
    checkpoints = (Checkpoint("good", "main", 30, 1.0), Checkpoint("main-0", "main", 0, 1.0))
    rescues = tuple(asked(args={"checkpoint": "good"}, branch="main") for _ in range(2))
    seen = look(
        branch="rollback-2", forked_at=30, recent=LOST, checkpoints=checkpoints, asked=rescues
    )
    assert asks(seen).args["checkpoint"] == "main-0"


def test_each_rescue_goes_below_the_rate_in_force() -> None:
    seen = look(branch="rollback-1", lr=0.1, recent=LOST, asked=(asked(branch="rollback-1"),))
    assert asks(seen).args["set_lr"] == {"value": pytest.approx(0.01)}


@pytest.mark.parametrize(("ratio", "lr"), [(0.05, 0.1), (0.7, 1 / 70), (9.0, 0.01), (None, 0.1)])
def test_steps_that_were_far_too_long_lower_the_rate_as_far_as_they_were(
    ratio: float | None, lr: float
) -> None:
    """Before the trouble, which begins at step 53; not at the start, and not within it."""
    measured = (Point(1, 0.3), Point(41, ratio), Point(61, 0.02))
    seen = look(recent=LOST, update_ratios=measured)
    assert asks(seen).args["set_lr"] == {"value": pytest.approx(lr)}


def test_without_a_checkpoint_the_rate_alone_is_lowered() -> None:
    ask = asks(look(recent=LOST, checkpoints=()))
    assert (ask.kind, dict(ask.args)) == ("set_lr", {"value": 0.1})


def test_a_key_s_limit_bounds_every_factor() -> None:
    allowance = Allowance(None, 2.0, needs_approval=False)
    assert asks(look(recent=LOST, allowance=allowance)).args["set_lr"] == {"value": 0.5}
    assert asks(look(step=400, allowance=allowance, **PLATEAU)).args == {"value": 0.5}


def test_a_loss_that_stalls_gets_a_third_of_the_rate() -> None:
    ask = asks(look(step=400, **PLATEAU))
    assert (ask.kind, dict(ask.args)) == ("set_lr", {"value": pytest.approx(1 / 3)})


@pytest.mark.parametrize(
    "commands",
    [
        (asked("set_lr", effective_step=300),),
        tuple(asked("set_lr") for _ in range(MOST_ANNEALS)),
        (asked("set_lr", args={"schedule": {"shape": "cosine"}}),),
    ],
    ids=["too soon", "too often", "cooling down"],
)
def test_a_loss_is_not_helped_to_stall_on(commands: tuple[Any, ...]) -> None:
    assert isinstance(decide([look(step=400, asked=commands, **PLATEAU)]), Wait)


def test_the_last_fifth_cools_down_once() -> None:
    ask = asks(look(step=800, max_steps=1_000))
    assert ask.args == {"schedule": {"shape": "cosine", "to": 0.1, "steps": 200}}
    cooling = (asked("set_lr", args=dict(ask.args), effective_step=801),)
    assert isinstance(decide([look(step=820, max_steps=1_000, asked=cooling)]), Wait)


@pytest.mark.parametrize("state", ["proposed", "pending", "received", "applying"])
def test_nothing_is_asked_while_a_command_is_under_way(state: str) -> None:
    assert isinstance(decide([look(recent=LOST, asked=(asked(state=state),))]), Wait)


@pytest.mark.parametrize("state", ["paused", "starting", "lost", "stopping"])
def test_a_run_that_does_not_run_is_waited_for(state: str) -> None:
    assert isinstance(decide([look(recent=LOST, state=state)]), Wait)


@pytest.mark.parametrize(
    "seen",
    [
        look(state="finished"),
        look(recent=LOST, allowance=Allowance(0, None, needs_approval=False)),
        look(recent=LOST, allowance=Allowance(None, 1.0, needs_approval=False)),
        look(asked=tuple(asked(state="rejected", error="no") for _ in range(MOST_REFUSALS))),
        look(recent=LOST, asked=tuple(asked() for _ in range(MOST_RESCUES))),
    ],
    ids=["ended", "budget", "no factor", "refused", "rescues"],
)
def test_it_is_done_once_nothing_more_can_be_done(seen: Observation) -> None:
    assert isinstance(decide([seen]), Done)


VALUES = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=0, max_size=32)
SIGNALS = st.sampled_from(["not_finite", "divergence", "update_ratio", "plateau", "loss_spike"])


@st.composite
def looks(draw: st.DrawFn) -> Observation:
    """Anything that a run may show."""
    step, on = draw(st.integers(0, 1_000)), draw(st.lists(SIGNALS, unique=True))
    return look(
        recent=draw(VALUES),
        norms=draw(VALUES),
        step=step,
        lr=draw(st.floats(1e-8, 10.0)),
        max_steps=1_000,
        update_ratios=points(draw(st.lists(st.none() | st.floats(0, 10), max_size=3)), step),
        on=tuple(on),
        signals=tuple(started(name, step) for name in on),
        allowance=Allowance(None, draw(st.none() | st.floats(1.0, 100.0)), needs_approval=False),
    )


@given(seen=looks())
def test_whatever_is_seen_a_command_is_one_within_the_limit_and_has_a_reason(
    seen: Observation,
) -> None:
    action = decide([seen])
    assert decide([seen]) == action
    if not isinstance(action, Ask):
        return
    assert 0 < len(action.reason) <= 500
    change = action.args.get("set_lr", action.args)
    after = change["schedule"]["to"] if "schedule" in change else change["value"]
    factor = seen.allowance.max_lr_factor or MOST_RESCUE_FACTOR
    assert max(after / seen.lr, seen.lr / after) <= factor * (1 + 1e-9)
    if after <= 10.0:
        parse(action.kind, dict(action.args))
