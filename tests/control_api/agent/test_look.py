"""A look at a run, over HTTP."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from control_api.agent.look import NUM_POINTS, NUM_RECENT, SteeredRun
from control_api.agent.observation import Allowance, Point
from control_api.remote import Remote, RemoteError
from ingest.database import write
from ingest.keys import Limits, Role, create_key
from tests.control_api.rows import make_checkpoint, make_metrics, make_run, make_signal
from trainer.tables import Branch, Run


@pytest.fixture
def run(engine: Engine) -> Run:
    """A run that went back once: from step 100 of `main` to 40, and on to 90."""
    with write(engine) as session:
        run = make_run(session, branch="again", step=90, lr=0.01, signals="plateau")
        forked = {"parent": "main", "from_step": 40, "from_adoption": 0, "created_at": 2e9}
        session.add(Branch(run_id=run.run_id, name="again", from_checkpoint=None, **forked))
        for name, step in (("start", 0), ("good", 40), ("bad", 100)):
            make_checkpoint(session, run, name, step)
        make_checkpoint(session, run, "newest", 80).branch = "again"
        make_metrics(session, run, {step: 4.0 - step / 100 for step in range(1, 101)})
        later = {step: None if step == 90 else 2.0 for step in range(41, 91)}
        make_metrics(session, run, later, branch="again")
        make_signal(session, run, 60, "divergence")
        make_signal(session, run, 70, "plateau", branch="again")
        return run


def steered(engine: Engine, url: str, **limits: int) -> SteeredRun:
    with write(engine) as session:
        key = create_key(session, "operator", "agent", Limits(**limits))
    return SteeredRun(Remote(url, key), "online")


@pytest.mark.usefixtures("run")
def test_a_look_shows_the_line_and_nothing_that_was_left_behind(engine: Engine, url: str) -> None:
    seen = steered(engine, url).look()
    assert (seen.branch, seen.forked_at, seen.step, seen.on) == ("again", 40, 90, ("plateau",))
    assert [checkpoint.name for checkpoint in seen.checkpoints] == ["newest", "good", "start"]
    assert [signal.name for signal in seen.signals] == ["plateau"]
    assert seen.start_loss == pytest.approx(3.99)
    assert len(seen.losses) <= NUM_POINTS
    assert [point.step for point in seen.recent_losses] == list(range(91 - NUM_RECENT, 91))
    assert seen.recent_losses[-1] == Point(90, None)


@pytest.mark.usefixtures("run")
def test_a_look_shows_the_agents_own_commands_and_what_is_left_to_it(
    engine: Engine, url: str, make_key: Callable[[Role], str]
) -> None:
    run = steered(engine, url, max_commands=3)
    Remote(url, make_key("operator")).command("online", "pause", {})
    run.ask("set_lr", {"value": 0.001}, "slower")
    seen = run.look()
    assert [(asked.kind, asked.reason, asked.state) for asked in seen.asked] == [
        ("set_lr", "slower", "pending")
    ]
    assert seen.allowance == Allowance(2, None, needs_approval=False)


def test_a_run_that_is_not_there_is_said_at_once(engine: Engine, url: str) -> None:
    with pytest.raises(RemoteError, match="no run"):
        steered(engine, url)
