"""A rate a hundred times too high drives a run apart; its policy rescues it. Nothing is mocked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from control_api.app import create_app
from ingest.database import read, write
from ingest.keys import create_key
from ingest.settings import Settings
from tests.trainer.asking import Asked, asking, commands, metric, the_run
from tests.trainer.doomed import Doom, train_to_death
from tests.trainer.tiny import TinyFamily, Witness
from trainer.health.policy import Policy, read_policy
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train
from trainer.tables import Branch, Command, HealthSignal

pytest_plugins = ("tests.trainer.live_runs",)

RESCUE = """
[[rule]]
name = "rescue"
on = ["divergence", "not_finite"]
at_most = 3
cooldown_steps = 50
command = { kind = "rollback", set_lr = { factor = 0.1 } }
"""
MISTYPED: dict[int, list[Asked]] = {
    40: [("save", {"name": "good"})],
    60: [("set_lr", {"factor": 100.0})],
}
Rescued = Callable[..., str]


@pytest.fixture
def rescued(place: Workplace, family: TinyFamily, tmp_path: Path) -> Rescued:
    """Trains the run called `run` under a policy; gives the state in which it ended."""

    def train_run(policy: str = RESCUE, **options: object) -> str:
        run = find_or_make_run(
            place.engine, "run", RunOptions.model_validate({"mix": "mix", **options}), family
        )
        with family.witness.watching():
            return train(replace(place, policy=written(tmp_path, policy)), run, family)

    return train_run


def written(folder: Path, policy: str) -> Policy:
    path = folder / "policy.toml"
    path.write_text(policy)
    return read_policy(path)


def last_losses(engine: Engine) -> list[float]:
    losses = metric(engine, "loss", the_run(engine).branch)
    return [loss or 0.0 for loss in list(losses.values())[-50:]]


def rollbacks(engine: Engine) -> list[Command]:
    return [command for command in commands(engine) if command.kind == "rollback"]


def test_a_mistyped_rate_is_undone_from_before_it(
    rescued: Rescued, witness: Witness, engine: Engine
) -> None:
    """The last checkpoint before the loss rose is taken, and a tenth of the rate that did it."""
    witness.during = asking(engine, MISTYPED)
    assert rescued(max_steps=1_000) == "finished"
    first = rollbacks(engine)[0]
    assert (first.state, first.actor) == ("applied", "policy:rescue")
    assert first.reason.startswith("divergence: the loss stays at")
    with read(engine) as session:
        signal = session.scalars(
            select(HealthSignal).where(HealthSignal.command_id == first.command_id)
        ).one()
        branch = session.get_one(Branch, (first.run_id, first.branch or ""))
    assert (signal.name, signal.state, signal.branch) == ("divergence", "started", "main")
    assert 60 < signal.step <= 76
    assert branch.from_step == 40
    assert max(last_losses(engine)) < 0.75  # what it began with


def test_anybody_sees_over_the_api_what_was_wrong_and_what_was_done(
    rescued: Rescued, witness: Witness, engine: Engine, settings: Settings
) -> None:
    witness.during = asking(engine, MISTYPED)
    rescued(max_steps=250)
    with write(engine) as session:
        headers = {"Authorization": f"Bearer {create_key(session, 'viewer', 'anybody')}"}
    with TestClient(create_app(settings), headers=headers) as client:
        query = {"name": "divergence", "branch": "main"}
        [signal] = client.get("/v1/runs/run/health", params=query).json()["items"]
        command = client.get(f"/v1/commands/{signal['command_id']}").json()
    assert "roll back" in signal["message"]
    assert (command["actor"], command["kind"], command["state"]) == (
        "policy:rescue",
        "rollback",
        "applied",
    )
    assert command["reason"] == f"divergence: {signal['message']}"
    assert command["after"]["lr"] == pytest.approx(0.1)


def test_a_run_that_began_too_fast_is_slowed_until_it_learns(
    rescued: Rescued, engine: Engine
) -> None:
    """Each rescue goes below the one before, though all go back to the same checkpoint."""
    assert rescued(max_steps=1_000, lr=1.0) == "finished"
    rates = [command.args_json for command in rollbacks(engine)]
    assert 1 <= len(rates) <= 3
    assert '"value": 0.1' in rates[0]
    assert max(last_losses(engine)) < 0.75


def test_after_a_rescue_nothing_of_the_line_that_was_left_is_on(
    rescued: Rescued, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, MISTYPED)
    rescued(max_steps=400)
    on = set(the_run(engine).signals.split())
    assert not on & {"divergence", "loss_spike", "not_finite"}


def test_no_rule_answers_more_often_than_it_may(rescued: Rescued, engine: Engine) -> None:
    """The rate is never lowered, so the run diverges again and again."""
    policy = RESCUE.replace("at_most = 3", "at_most = 2").replace("0.1 }", "1.0 }")
    rescued(policy, max_steps=1_000, lr=1.0)
    assert len(rollbacks(engine)) == 2
    assert "divergence" in the_run(engine).signals


def test_a_rule_that_has_said_enough_leaves_the_signal_to_the_next(
    rescued: Rescued, engine: Engine
) -> None:
    policy = RESCUE.replace("at_most = 3", "at_most = 1").replace("0.1 }", "1.0 }")
    policy += """
[[rule]]
name = "give-up"
on = ["divergence"]
at_most = 1
cooldown_steps = 50
command = { kind = "stop" }
"""
    assert rescued(policy, max_steps=5_000, lr=1.0) == "stopped"
    asked = [(command.kind, command.actor) for command in commands(engine)]
    assert asked == [("rollback", "policy:rescue"), ("stop", "policy:give-up")]


def test_what_a_policy_has_done_is_counted_over_a_crash(
    rescued: Rescued, witness: Witness, place: Workplace, tmp_path: Path, engine: Engine
) -> None:
    """The process that dies has rolled back once; the next one may do so once, not twice."""
    policy = RESCUE.replace("at_most = 3", "at_most = 2").replace("0.1 }", "1.0 }")
    doom = Doom(die_on_branch="rollback-1", lr=1.0, policy=written(tmp_path, policy))
    train_to_death(place.settings, doom)
    assert len(rollbacks(engine)) == 1
    witness.during = lambda count: place.stop_asked.set() if count == 600 else None
    rescued(policy)
    assert len(rollbacks(engine)) == 2
