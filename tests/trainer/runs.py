"""Runs, mixes and commands for tests, as rows."""

from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ingest.database import write
from ingest.slices import save_mix, save_slice
from tests.factories import make_samples, make_session
from trainer.commands import queue as command_queue
from trainer.commands.kinds import parse
from trainer.tables import Branch, Command, Run

TINY_REPRESENTATION = "latent:tiny"
NOW = 1_754_600_000.0


def make_run(
    session: Session, run_id: str = "run", *, state: str = "running", recipe: str = "tiny"
) -> Run:
    """A run that nobody holds."""
    run = Run(
        run_id=run_id,
        name=run_id,
        recipe=recipe,
        config_json="{}",
        state=state,
        branch="main",
        step=0,
        max_steps=10,
        lr=0.1,
        mix_name="mix",
        mix_version=1,
        representation="latent:tiny",
        environment="drawn/1",
        command_counter=0,
        fence=0,
        created_at=NOW,
        updated_at=NOW,
    )
    session.add(run)
    session.flush()
    session.add(Branch(run_id=run_id, name="main", from_step=0, from_adoption=0, created_at=NOW))
    session.flush()
    return run


def make_mix(session: Session, name: str = "mix", **shares: float) -> None:
    """A mix and the slices that it names, each the samples of the task of its name."""
    for slice_name in shares:
        save_slice(session, slice_name, f"task:{slice_name}", actor="test", now=NOW)
    save_mix(session, name, shares, actor="test", now=NOW)


def make_tiny_samples(session: Session, task: str, count: int) -> None:
    """Samples of one visit and task, placed where the tiny family reads."""
    make_samples(
        session,
        owner=make_session(session, session_id=uuid4().hex),  # unique over processes, too
        changes=[()] * count,
        tasks=(task,),
        representations=(TINY_REPRESENTATION,),
    )


def add_samples(engine: Engine, task: str, count: int) -> None:
    """The same in a transaction of its own."""
    with write(engine) as session:
        make_tiny_samples(session, task, count)


def fill(engine: Engine) -> None:
    """A mix of `old` and one of `fresh`, 40 samples each."""
    with write(engine) as session:
        for task in ("old", "fresh"):
            for _ in range(4):
                make_tiny_samples(session, task, 10)
        make_mix(session, "mix", old=1.0)
        make_mix(session, "fresh", fresh=1.0)


def ask(session: Session, kind: str, run_id: str = "run", **arguments: object) -> Command:
    """A submitted command."""
    return command_queue.submit(session, run_id, parse(kind, dict(arguments)), actor="test")
