"""A run of somebody's own Trainer: their dataset, their model, their arguments, and our commands.

In: an interactive Trainer before its `train`. Out: the run's boundary, to be trained under. Where
no server is configured, the run has an installation of its own in the output folder, and a server
beside it for as long as it trains; with STOVETOP_DATABASE_URL or STOVETOP_DATA it registers there.
A run is called by `run_name`, else after the output folder. Training anew never goes over a run
that is there: the next one is called `name-2`.
"""

import math
import os
import re
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, count, takewhile
from pathlib import Path
from threading import Event

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from transformers import TrainingArguments

from ingest.database import open_engine, read, take_turn, upgrade, write
from ingest.logs import log_to
from ingest.settings import Settings
from trainer.checkpoints.register import load_register
from trainer.health.policy import read_policy
from trainer.loop.interactive import InteractiveTrainer
from trainer.ranks.alone import Ranks
from trainer.ranks.group import Other, join
from trainer.run.boundary import Boundary
from trainer.run.dataset_supply import OWN_MIX, DatasetSupply
from trainer.run.follower import Follower
from trainer.run.rows import RunFinished, RunOptions, agreed_run, insert_run
from trainer.run.server import own_server
from trainer.run.training import Workplace, life
from trainer.tables import DATASET, Run

FOLDER = "stovetop"
CONFIGURED_BY = ("STOVETOP_DATABASE_URL", "STOVETOP_DATA")
NEVER = 2**62  # steps between automatic checkpoints: `save_strategy` says when


@dataclass
class OwnFamily:
    """What a run knows of a model that is not ours: its checkpoints hold all that HF writes."""

    name: str
    save_every: int = NEVER
    changeable_modules: Collection[str] | None = None

    def write_config(self, folder: Path) -> None:
        """Hugging Face writes it."""


@dataclass(frozen=True)
class OwnRun:
    """A run under way: its boundary, and what it draws from."""

    boundary: Boundary | Follower
    supply: DatasetSupply


@contextmanager
def own_run(trainer: InteractiveTrainer, resume: str | bool | None) -> Iterator[OwnRun]:
    """The run of a Trainer that is about to train.

    Raises RunFinished, RunHeld, UnusableDataset, or ValueError where there is nothing to resume.
    """
    if not structlog.is_configured():
        log_to(sys.stderr)
    settings, is_own = _installation(trainer.args)
    ranks = join()
    supply = DatasetSupply(trainer.authors_dataloader(), _seed(trainer.args), ranks)
    trainer.args.max_steps = max_steps(trainer.args, supply.num_batches)
    engine = open_engine(settings.resolved_database_url)
    try:
        run = _begun(engine, settings, trainer, resume, ranks)
        policy = read_policy(settings.policy) if settings.policy else None
        place = Workplace(engine, settings, Event(), policy, ranks)
        is_serving = is_own and ranks.index == 0
        with own_server(settings, run.name) if is_serving else nullcontext():
            family = OwnFamily(run.recipe)
            with life(place, run, family, lambda _is_new: supply) as boundary:
                assert boundary is not None
                yield OwnRun(boundary, supply)
        ranks.close()  # after an error nobody can part from a rank that hangs
    finally:
        engine.dispose()


def _begun(
    engine: Engine,
    settings: Settings,
    trainer: InteractiveTrainer,
    resume: str | bool | None,
    ranks: Ranks | Other,
) -> Run:
    """The run's row, which rank 0 finds or makes."""

    def begin() -> Run:
        upgrade(settings)
        return _find_or_make(engine, settings, trainer, resume)

    run_id = agreed_run(ranks, begin)
    with read(engine) as session:
        return session.get_one(Run, run_id)


def max_steps(args: TrainingArguments, num_batches: int) -> int:
    """How many steps the arguments ask for."""
    if args.max_steps > 0:
        return args.max_steps
    return math.ceil(args.num_train_epochs * num_batches / args.gradient_accumulation_steps)


def _installation(args: TrainingArguments) -> tuple[Settings, bool]:
    """Where the run is recorded, and whether that is its own."""
    settings = Settings()
    is_own = not any(os.environ.get(name) for name in CONFIGURED_BY)
    if is_own:
        settings = settings.model_copy(update={"data": Path(args.output_dir or ".") / FOLDER})
    if args.save_total_limit is not None:
        keep = max(1, args.save_total_limit)
        settings = settings.model_copy(update={"keep_checkpoints": keep})
    return settings, is_own


def _seed(args: TrainingArguments) -> int:
    return args.seed if args.data_seed is None else args.data_seed


def _find_or_make(
    engine: Engine, settings: Settings, trainer: InteractiveTrainer, resume: str | bool | None
) -> Run:
    wanted = _name(trainer.args)
    with write(engine) as session:
        take_turn(session, f"run:{wanted}")
        earlier = _runs_called(session, wanted)
        if not resume:
            name = f"{wanted}-{len(earlier) + 1}" if earlier else wanted
            return _make(session, name, trainer)
        if not earlier:
            raise ValueError(f"resume_from_checkpoint: no run {wanted!r} to go on with")
        run = earlier[-1]
        if isinstance(resume, str):
            _check_newest(session, settings, run, Path(resume))
        return _go_on(run, trainer)


def _name(args: TrainingArguments) -> str:
    given = args.run_name or Path(args.output_dir or "run").resolve().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(given).name).strip("-._")[:56] or "run"


def _runs_called(session: Session, wanted: str) -> list[Run]:
    """`wanted`, `wanted-2`, `wanted-3` ... as far as they are there, in order."""
    alike = session.scalars(select(Run).where(Run.name.startswith(wanted, autoescape=True)))
    runs = {run.name: run for run in alike}
    names = chain([wanted], (f"{wanted}-{number}" for number in count(2)))
    return [runs[name] for name in takewhile(runs.__contains__, names)]


def _make(session: Session, name: str, trainer: InteractiveTrainer) -> Run:
    args = trainer.args
    options = RunOptions(max_steps=args.max_steps, lr=args.learning_rate, seed=args.seed)
    return insert_run(
        session,
        name,
        options,
        recipe=type(trainer).__name__.removeprefix("Interactive"),
        mix=OWN_MIX,
        representation=DATASET,
        environment=DATASET,
    )


def _go_on(run: Run, trainer: InteractiveTrainer) -> Run:
    """Take a run up again; more steps than it has taken may be asked for."""
    if run.state == "finished" and trainer.args.max_steps <= run.step:
        raise RunFinished(
            f"run {run.name!r} has taken its {run.step} steps; ask for more by max_steps or "
            "num_train_epochs, or train anew without resume_from_checkpoint"
        )
    run.max_steps = trainer.args.max_steps
    run.updated_at = time.time()
    return run


def _check_newest(session: Session, settings: Settings, run: Run, wanted: Path) -> None:
    newest = next(load_register(session, run.run_id).newest_first(run.branch), None)
    if newest is None or (settings.runs_path / newest.path).resolve() != wanted.resolve():
        raise ValueError(
            f"resume_from_checkpoint: {wanted} is not the newest of branch {run.branch!r}; resume "
            "with True, and roll the run back to it by a command"
        )
