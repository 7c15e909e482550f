"""The trainer's process: `python -m trainer.run --name N [--recipe R] --mix M --lr X --seed K ...`.

A run that exists is resumed by its name alone, after a crash as after a stop. SIGTERM and SIGINT
save a checkpoint at the next step boundary and stop it. Exit code 0: finished, before or now, or
stopped; 1: an error, which is in the run's row, too. torch gets one thread unless `--threads` says
otherwise: results are the same bits on every machine with the same thread count. Under torchrun or
`accelerate launch` all processes train the one run: `torchrun --nproc-per-node 2 -m trainer.run`.
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog
import torch
from pydantic import ValidationError
from sqlalchemy import Engine, select

from ingest.database import open_engine, read
from ingest.process import begin_process
from ingest.settings import Settings
from trainer.commands.references import CommandRefused
from trainer.family import BaseRefused, ModelFamily, open_family
from trainer.health.policy import PolicyRefused, read_policy
from trainer.journal.lease import LeaseLost, RunHeld
from trainer.ranks.alone import RankLost, Ranks
from trainer.ranks.group import Other, join
from trainer.recipes import DEFAULT_RECIPE, RECIPES, UnknownRecipe
from trainer.run.rows import RunFinished, RunOptions, agreed_run, find_or_make_run, options_of
from trainer.run.take_over import NothingToResume
from trainer.run.training import NoSamples, Workplace, train
from trainer.tables import Run

log = structlog.get_logger()

UNTRAINABLE = (
    BaseRefused,
    CommandRefused,
    LeaseLost,
    NoSamples,
    NothingToResume,
    PolicyRefused,
    RankLost,
    RunHeld,
    UnknownRecipe,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a run to its end; the exit code."""
    asked = _parser().parse_args(arguments)
    torch.set_num_threads(asked.threads)
    settings = Settings()
    engine = open_engine(settings.resolved_database_url)
    stop_asked = begin_process(settings)
    try:
        ranks = join()
        policy_path = asked.policy or settings.policy
        policy = read_policy(policy_path) if policy_path else None
        place = Workplace(engine, settings, stop_asked, policy, ranks)
        options = RunOptions(
            max_steps=asked.max_steps,
            mix=asked.mix,
            lr=asked.lr,
            seed=asked.seed,
            base=asked.base,
            recipe=asked.recipe,
        )
        run, family = _begun(engine, asked.name, options, ranks)
        gc.freeze()  # modules are no garbage; to look them through stops a step for 0.5 s
        train(place, run, family)
    except RunFinished as done:
        log.info("nothing_to_train", reason=str(done))
    except (*UNTRAINABLE, ValidationError) as error:
        sys.stderr.write(f"trainer: {error}\n")
        return 1
    finally:
        engine.dispose()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.run", description=__doc__)
    parser.add_argument("--name", required=True, help="the run; one that exists is resumed")
    parser.add_argument("--max-steps", type=int, help="optimizer steps of a new run [1000]")
    parser.add_argument("--mix", help="the mix that a new run starts with")
    parser.add_argument("--lr", type=float, help="learning rate of a new run [the recipe's]")
    parser.add_argument("--seed", type=int, help="seed of a new run [0]")
    parser.add_argument("--recipe", help=f"{' or '.join(RECIPES)} [{DEFAULT_RECIPE}]")
    parser.add_argument("--base", help="folder of the model to start from [the recipe's own]")
    parser.add_argument("--policy", type=Path, help="file of rules [STOVETOP_POLICY, or none]")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch [1]")
    return parser


def _begun(
    engine: Engine, name: str, options: RunOptions, ranks: Ranks | Other
) -> tuple[Run, ModelFamily]:
    """The run's row, which rank 0 finds or makes, and its family."""
    family = _family_of(engine, name, options)
    run_id = agreed_run(ranks, lambda: find_or_make_run(engine, name, options, family))
    with read(engine) as session:
        return session.get_one(Run, run_id), family


def _family_of(engine: Engine, name: str, options: RunOptions) -> ModelFamily:
    """The family that is asked for, or the one that the run of this name was made with."""
    with read(engine) as session:
        run = session.scalars(select(Run).where(Run.name == name)).first()
    recipe = run.recipe if run is not None else options.recipe or DEFAULT_RECIPE
    base = options.base if run is None else options_of(run).base
    return open_family(recipe, Path(base) if base else None)


if __name__ == "__main__":
    exit_code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a full disk
            stream.flush()
    # All of ours is closed by now; the interpreter would take torch apart for another 2 s.
    os._exit(exit_code)
