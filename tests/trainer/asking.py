"""Commands that arrive in the midst of steps, and what became of them."""

import json
from collections.abc import Callable, Mapping
from functools import partial

from sqlalchemy import Engine, select

from ingest.database import read, write
from tests.trainer.runs import ask
from tests.waiting import wait_until
from trainer.mix.cohorts import unpack_numbers
from trainer.tables import Checkpoint, Command, Metric, Run, Step

Asked = tuple[str, dict[str, object]]
Taken = tuple[float, list[int], float]  # rate, sample numbers, loss


def the_run(engine: Engine) -> Run:
    """The one run."""
    with read(engine) as session:
        return session.scalars(select(Run)).one()


def ask_now(engine: Engine, kind: str, **arguments: object) -> str:
    """Submit a command to the one run; its id."""
    identity = the_run(engine).run_id
    with write(engine) as session:
        return ask(session, kind, identity, **arguments).command_id


def asking(
    engine: Engine, script: Mapping[int, list[Asked]], *, num_ranks: int = 1
) -> Callable[[int], None]:
    """What a witness does during its n-th step: submit the script's commands for it.

    Each is received before the step goes on, so it holds from the next one; of several ranks, none
    is received before all know of it, which is later in the step. Before an undo it waits until
    everything before it is settled, and before a rollback to a checkpoint that nobody named until
    it is listed.
    """

    def during(count: int) -> None:
        for kind, arguments in script.get(count, []):
            if kind == "undo":
                wait_until(lambda: all_settled(engine))
            if kind == "rollback":
                wait_until(partial(is_known, engine, str(arguments["checkpoint"])))
            command_id = ask_now(engine, kind, **arguments)
            if num_ranks == 1:
                wait_until(partial(is_received, engine, command_id))

    return during


def commands(engine: Engine) -> list[Command]:
    """All commands, in order."""
    with read(engine) as session:
        return list(session.scalars(select(Command).order_by(Command.number)))


def all_settled(engine: Engine) -> bool:
    """Whether every command has come to its end."""
    return all(command.settled_at is not None for command in commands(engine))


def is_known(engine: Engine, checkpoint: str) -> bool:
    """Whether a checkpoint is listed, or a command asks for it."""
    with read(engine) as session:
        listed = session.scalars(select(Checkpoint).where(Checkpoint.name == checkpoint)).first()
    return listed is not None or any(
        json.loads(command.args_json).get("name") == checkpoint for command in commands(engine)
    )


def is_received(engine: Engine, command_id: str) -> bool:
    """Whether the run has a command."""
    with read(engine) as session:
        return session.get_one(Command, command_id).state != "pending"


def metric(engine: Engine, name: str, branch: str = "main") -> dict[int, float | None]:
    """A metric by step."""
    query = select(Metric.step, Metric.value).where(Metric.name == name, Metric.branch == branch)
    with read(engine) as session:
        return {row.step: row.value for row in session.execute(query.order_by(Metric.step))}


def recorded(engine: Engine, branch: str = "main") -> dict[int, Taken]:
    """What SQL says about a branch's steps, in order."""
    losses = metric(engine, "loss", branch)
    query = select(Step).where(Step.branch == branch).order_by(Step.step)
    with read(engine) as session:
        rows = session.scalars(query).all()
    return {
        row.step: (row.lr, unpack_numbers(row.samples).tolist(), losses[row.step] or 0.0)
        for row in rows
    }


def wait_for_state(engine: Engine, command_id: str, *states: str) -> None:
    """Until a command is in one of these states."""

    def is_there() -> bool:
        with read(engine) as session:
            return session.get_one(Command, command_id).state in states

    wait_until(is_there)
