"""A run's row: made once, found again by its name.

In: what somebody asked for. Out: the row of a new run, or of the one that has the name, whose own
settings stay in force. Where several processes train, rank 0 looks and all learn what it found.
"""

import time
from collections.abc import Callable
from functools import partial

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from ingest.database import take_turn, write
from ingest.ids import content_id
from trainer.commands.kinds import Label, MixChange, Rate
from trainer.commands.references import CommandRefused, MixVersion, find_mix
from trainer.family import ModelFamily
from trainer.ranks.alone import Ranks
from trainer.ranks.group import Other
from trainer.tables import Branch, Run

log = structlog.get_logger()

_NAME: TypeAdapter[str] = TypeAdapter(Label)
FIRST_BRANCH = "main"
MAX_STEPS = 1_000
_FINISHED = "finished: "  # no id begins like this


class RunFinished(RuntimeError):
    """The run has taken all its steps."""


def agreed_run(ranks: Ranks | Other, find: Callable[[], Run]) -> str:
    """The id of the run that rank 0 finds or makes.

    Raises RunFinished on every rank; on rank 0 what `find` raises, on the others RankLost.
    """
    word = ranks.learn() if isinstance(ranks, Other) else ranks.say(partial(_word, find))
    if word.startswith(_FINISHED):
        raise RunFinished(word.removeprefix(_FINISHED))
    return word


def _word(find: Callable[[], Run]) -> str:
    try:
        return find().run_id
    except RunFinished as done:
        return f"{_FINISHED}{done}"


class RunOptions(BaseModel):
    """What a run is made with; None is the default, and for a run that exists its own setting."""

    model_config = ConfigDict(frozen=True)

    max_steps: int | None = Field(None, ge=1)
    mix: str | None = None
    lr: Rate | None = None
    seed: int | None = Field(None, ge=0, lt=2**32)
    base: str | None = Field(None, description="folder of the model to start from")
    recipe: str | None = Field(None, description="the model family's name")


def find_or_make_run(engine: Engine, name: str, options: RunOptions, family: ModelFamily) -> Run:
    """The run of this name.

    Raises RunFinished, CommandRefused where a new run's mix is missing, or ValidationError where
    its name could not stand in an address.
    """
    with write(engine) as session:
        take_turn(session, f"run:{name}")
        run = session.scalars(select(Run).where(Run.name == name)).first()
        if run is None:
            return _make(session, name, options, family)
    if run.state == "finished":
        raise RunFinished(f"run {name!r} has finished; start one under another name")
    _warn_of_ignored(run, options)
    return run


def options_of(run: Run) -> RunOptions:
    """What the run was made with, defaults filled in."""
    return RunOptions.model_validate_json(run.config_json)


def _make(session: Session, name: str, options: RunOptions, family: ModelFamily) -> Run:
    if options.mix is None:
        raise CommandRefused("mix", "a new run needs one to draw from")
    mix = find_mix(session, MixChange(name=options.mix), "mix")
    made_with = RunOptions(
        max_steps=options.max_steps or MAX_STEPS,
        mix=mix.name,
        lr=options.lr or family.learning_rate,
        seed=options.seed or 0,
        base=options.base,
        recipe=family.name,
    )
    return insert_run(
        session,
        name,
        made_with,
        recipe=family.name,
        mix=mix,
        representation=family.representation,
        environment=family.environment,
    )


def insert_run(
    session: Session,
    name: str,
    made_with: RunOptions,
    *,
    recipe: str,
    mix: MixVersion,
    representation: str,
    environment: str,
) -> Run:
    """A new run with its first branch.

    Raises ValidationError where its name could not stand in an address.
    """
    _NAME.validate_python(name)
    assert made_with.max_steps is not None
    assert made_with.lr is not None
    now = time.time()
    run = Run(
        run_id=content_id("run", name),
        name=name,
        recipe=recipe,
        config_json=made_with.model_dump_json(),
        state="starting",
        branch=FIRST_BRANCH,
        step=0,
        max_steps=made_with.max_steps,
        lr=made_with.lr,
        mix_name=mix.name,
        mix_version=mix.version,
        representation=representation,
        environment=environment,
        command_counter=0,
        fence=0,
        created_at=now,
        updated_at=now,
    )
    session.add(run)
    session.flush()
    session.add(
        Branch(run_id=run.run_id, name=FIRST_BRANCH, from_step=0, from_adoption=0, created_at=now)
    )
    log.info("run_made", run_id=run.run_id, name=name)
    return run


def _warn_of_ignored(run: Run, options: RunOptions) -> None:
    made_with = options_of(run).model_dump()
    for option, value in options.model_dump(exclude_none=True).items():
        if value != made_with[option]:
            log.warning("option_ignored", option=option, asked=value, in_force=made_with[option])
