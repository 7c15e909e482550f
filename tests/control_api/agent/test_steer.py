"""The twin and a run that was started a hundred times too fast, over the real HTTP API."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from sqlalchemy import Engine, select

from control_api.agent.look import SteeredRun
from control_api.agent.rules import decide
from control_api.agent.steer import steer
from control_api.agent.transcript import Transcript
from control_api.app import create_app
from control_api.remote import Remote
from ingest.database import read, write
from ingest.keys import Limits, create_key
from ingest.settings import Settings
from tests.serving import serving
from tests.trainer.asking import commands, the_run
from tests.trainer.tiny import TinyFamily, Witness
from tests.waiting import wait_until
from trainer.commands.approval import Decision, approve
from trainer.tables import Command, Run

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]
LIMITS = Limits(max_lr_factor=10.0, max_commands=20)
FAST = 1.0  # a hundred times the family's own


@pytest.fixture
def witness(family: TinyFamily) -> Witness:
    return family.witness


@contextmanager
def agent(
    settings: Settings, engine: Engine, path: Path | None = None, limits: Limits = LIMITS
) -> Iterator[list[str]]:
    """The twin beside the run, in a thread; its summary, once that is over."""
    with write(engine) as session:
        key = create_key(session, "operator", "agent", limits)
    ended: list[str] = []
    stop = threading.Event()

    def run_agent(url: str) -> None:
        wait_until(lambda: _exists(engine))
        with Transcript(path) as transcript:
            run = SteeredRun(Remote(url, key), "run")
            ended.append(steer(run, decide, transcript, tell=lambda _: None, stop=stop))

    with serving(create_app(settings)) as url:
        thread = threading.Thread(target=run_agent, args=(url,))
        thread.start()
        try:
            yield ended
        except BaseException:
            stop.set()
            raise
        finally:
            thread.join()


def _exists(engine: Engine) -> bool:
    with read(engine) as session:
        return session.scalars(select(Run)).first() is not None


def last_losses(witness: Witness) -> float:
    return mean(step.loss for step in witness.steps[-50:])


def test_a_run_that_nobody_helps_ends_far_from_where_it_began(
    training: Training, witness: Witness
) -> None:
    assert training(max_steps=600, lr=FAST) == "finished"
    assert last_losses(witness) > 10 * witness.steps[0].loss


def test_the_twin_rescues_a_run_that_was_started_too_fast(
    training: Training, witness: Witness, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    with agent(settings, engine, tmp_path / "transcript") as ended:
        assert training(max_steps=600, lr=FAST) == "finished"
    assert last_losses(witness) < 0.5 * witness.steps[0].loss
    asked = commands(engine)
    assert asked[0].kind == "rollback"
    assert {command.actor.partition("/")[0] for command in asked} == {"agent"}
    assert all(command.reason for command in asked)
    assert ended[0].startswith("the run is finished")
    lines = (tmp_path / "transcript").read_text().splitlines()
    told: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [line["kind"] for line in told if line["what"] == "asked"] == [
        command.kind for command in asked
    ]
    assert told[-1]["what"] == "done"


def test_what_the_twin_proposes_waits_for_a_person(
    training: Training, witness: Witness, engine: Engine, settings: Settings
) -> None:
    """No proposal changes the run; the approved one rescues it."""
    approved_at: list[int] = []

    def during(count: int) -> None:
        if count == 200:
            wait_until(lambda: bool(commands(engine)))
            assert [command.state for command in commands(engine)] == ["proposed"]
            approved_at.append(count)
            _approve(engine, commands(engine)[0])

    witness.during = during
    with agent(settings, engine, limits=Limits(10.0, 1, needs_approval=True)) as ended:
        training(max_steps=400, lr=FAST)
    [command] = commands(engine)
    assert approved_at == [200]
    assert (command.state, command.decided_by) == ("applied", "me")
    assert {step.lr for step in witness.steps[:200]} == {FAST}
    assert the_run(engine).branch == "rollback-1"
    assert ended == ["this key's budget of commands is spent"]
    assert last_losses(witness) < witness.steps[0].loss


def _approve(engine: Engine, command: Command) -> None:
    with write(engine) as session:
        approve(session, command.command_id, Decision("me", "it diverges indeed"))
