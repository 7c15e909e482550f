"""A limited key's commands where they are applied: each rate by the one then in force."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from ingest.database import write
from ingest.keys import Limits
from tests.trainer.asking import all_settled, commands, the_run
from tests.trainer.runs import ask
from tests.trainer.tiny import Witness
from tests.waiting import wait_until
from trainer.commands import queue as command_queue
from trainer.commands.approval import Decision, approve
from trainer.commands.kinds import parse

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]
LIMITS = Limits(max_lr_factor=10.0)


def limited(engine: Engine, kind: str, limits: Limits = LIMITS, **arguments: Any) -> str:
    """A command of a limited key; its id."""
    run_id = the_run(engine).run_id
    with write(engine) as session:
        command = parse(kind, arguments)
        return command_queue.submit(
            session, run_id, command, actor="agent", limits=limits
        ).command_id


def test_of_a_burst_each_command_counts_from_the_one_before(
    training: Training, witness: Witness, engine: Engine
) -> None:
    """Both are within a factor of 10 of the rate when they are asked; together they are not."""

    def during(count: int) -> None:
        if count == 3:
            limited(engine, "set_lr", value=0.001)
            limited(engine, "set_lr", value=0.1)

    witness.during = during
    training()
    first, second = commands(engine)
    assert (first.state, second.state) == ("applied", "rejected")
    assert "ask for 0.0001 to 0.01" in (second.error or "")
    assert {step.lr for step in witness.steps[4:]} == {0.001}


def test_a_group_is_judged_by_its_own_rate(
    training: Training, witness: Witness, engine: Engine
) -> None:
    def during(count: int) -> None:
        if count == 2:
            with write(engine) as session:
                ask(session, "set_lr", the_run(engine).run_id, value=1.0, group="no_decay")
        if count == 5:
            limited(engine, "set_lr", value=0.01)

    witness.during = during
    training()
    theirs, own = commands(engine)
    assert (theirs.state, own.state) == ("applied", "rejected")


@pytest.mark.parametrize("kind", ["rollback", "undo"])
def test_a_rate_that_comes_back_counts_like_a_new_one(
    training: Training, witness: Witness, engine: Engine, kind: str
) -> None:
    """Only the run knows that the other group's rate would fall to a hundredth."""

    def during(count: int) -> None:
        if count == 2:
            with write(engine) as session:
                ask(session, "set_lr", the_run(engine).run_id, value=1.0, group="no_decay")
        if count == 5:
            wait_until(lambda: all_settled(engine))
            [theirs] = commands(engine)
            asked = {"undo": {"command": theirs.command_id}, "rollback": {"checkpoint": "main-0"}}
            limited(engine, kind, **asked[kind])

    witness.during = during
    training()
    last = commands(engine)[-1]
    assert (last.kind, last.state) == (kind, "rejected")
    assert "the lr would go from 1 to 0.01" in (last.error or "")


def test_a_proposal_never_reaches_the_run_until_it_is_approved(
    training: Training, witness: Witness, engine: Engine
) -> None:
    proposals: list[str] = []

    def during(count: int) -> None:
        if count == 2:
            limits = Limits(needs_approval=True)
            proposals.extend(limited(engine, "set_lr", limits, value=rate) for rate in (0.5, 0.7))
        if count == 12:
            with write(engine) as session:
                approve(session, proposals[1], Decision("me", "it plods"))

    witness.during = during
    assert training(max_steps=20) == "finished"
    by_id = {command.command_id: command for command in commands(engine)}
    never, approved = (by_id[proposal] for proposal in proposals)
    assert (never.state, approved.state, approved.effective_step) == ("expired", "applied", 13)
    assert [step.lr for step in witness.steps] == [0.01] * 12 + [0.7] * 8
