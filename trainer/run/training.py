"""A run from its lease to its end: every part put together, and taken apart in order.

In: a run's row and its model family. Out: the state in which it ended, `finished` or `stopped`; an
error makes it `failed` and is raised. A run that is started again goes on where it was. `life` is
every run's; `train` is that of one on the buffer, and `own` has that of somebody's own Trainer.
Where several processes train, rank 0 has the run and the others a `Follower` in its place; a rank
that is lost makes the run `lost`, to be started again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog
import transformers
from sqlalchemy import Engine
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from ingest.database import read
from ingest.settings import Settings
from ingest.shard_store import open_store
from trainer.checkpoints.folder import remove_unlisted
from trainer.checkpoints.retention import Retention
from trainer.commands.inbox import Inbox
from trainer.commands.kinds import MixChange
from trainer.commands.references import MixVersion, find_mix
from trainer.family import Family, ModelFamily
from trainer.health.policy import Policy
from trainer.health.watch import HealthWatch
from trainer.journal.entries import RunEnded, RunLost, RunStarted
from trainer.journal.journal import Journal
from trainer.journal.lease import Lease, LeaseLost
from trainer.loop.interactive import InteractiveTrainer, interactive
from trainer.mix.adopt import Adopter
from trainer.mix.sampler import MixSampler
from trainer.mix.stream import Stream
from trainer.ranks.alone import Alone, Ranks
from trainer.ranks.group import Other, is_of_another
from trainer.run.boundary import Boundary
from trainer.run.buffer_supply import BufferSupply
from trainer.run.follower import FollowedRun, Follower
from trainer.run.live import LiveRun
from trainer.run.orders import End
from trainer.run.rows import options_of
from trainer.run.saving import Saver
from trainer.run.supply import Supply
from trainer.run.take_over import take_over
from trainer.tables import Run

log = structlog.get_logger()

SAMPLES_WAIT_S = 120.0
LOOK_FOR_SAMPLES_EVERY_S = 0.2


class NoSamples(RuntimeError):
    """A slice of a new run's mix has stayed empty for SAMPLES_WAIT_S."""


@dataclass(frozen=True)
class Workplace:
    """Where runs are trained; `stop_asked` ends one at its next step boundary.

    `policy` answers the signals of their health.
    """

    engine: Engine
    settings: Settings
    stop_asked: threading.Event
    policy: Policy | None = None
    ranks: Ranks | Other = field(default_factory=Alone)


def train(place: Workplace, run: Run, family: ModelFamily) -> str:
    """Train a run on the buffer to its end; the state in which it ended.

    Raises RunHeld, NoSamples, NothingToResume, LeaseLost, RankLost, or what the training raises.
    """
    if family.batch_size % place.ranks.count:
        raise ValueError(
            f"batch_size: {family.batch_size} samples a step are no equal shares for "
            f"{place.ranks.count} ranks; start another number of them"
        )
    with life(place, run, family, partial(_from_buffer, place, run, family)) as boundary:
        if boundary is None:
            return "stopped"
        trainer = _trainer(place, run, family)
        trainer.interaction = boundary
        trainer.train()
    return boundary.outcome


@contextmanager
def life(
    place: Workplace, run: Run, family: Family, open_supply: Callable[[bool], Supply | None]
) -> Iterator[Boundary | Follower | None]:
    """What a trainer obeys on this rank; None is a stop before the first step.

    `open_supply` is told whether the run is new and may have to be waited for. An error within
    makes the run `failed`, or `lost` where it is that of another rank, and passes. Raises RunHeld,
    NothingToResume, LeaseLost or RankLost.
    """
    if isinstance(place.ranks, Other):
        with _followed(place, place.ranks, run, family, open_supply) as follower:
            yield follower
    else:
        with _led(place, place.ranks, run, family, open_supply) as boundary:
            yield boundary


@contextmanager
def _led(
    place: Workplace,
    ranks: Ranks,
    run: Run,
    family: Family,
    open_supply: Callable[[bool], Supply | None],
) -> Iterator[Boundary | None]:
    """A run from its lease to its end."""
    with (
        Lease(place.engine, run.run_id, lease_s=place.settings.lease_s) as lease,
        Journal(place.engine, lease, HealthWatch(place.policy)) as journal,
    ):
        journal.write(RunStarted(time.time()))
        outcome = "stopped"
        try:
            held = _Held(place, ranks, run, lease, journal)
            with _boundary(held, family, open_supply) as boundary:
                yield boundary
                outcome = boundary.outcome if boundary is not None else outcome
        except LeaseLost:
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            is_lost = is_of_another(error)
            journal.write(
                RunLost(time.time(), reason) if is_lost else RunEnded(time.time(), "failed", reason)
            )
            raise
        journal.write(RunEnded(time.time(), outcome))
    log.info("run_ended", run_id=run.run_id, state=outcome)


@dataclass(frozen=True)
class _Held:
    """A run that this process holds."""

    place: Workplace
    ranks: Ranks
    run: Run
    lease: Lease
    journal: Journal


@contextmanager
def _boundary(
    held: _Held, family: Family, open_supply: Callable[[bool], Supply | None]
) -> Iterator[Boundary | None]:
    place, run, runs_path = held.place, held.run, held.place.settings.runs_path
    with held.ranks.speaking():
        with read(place.engine) as session:
            found = take_over(session, run, runs_path)
        remove_unlisted(runs_path / run.run_id, {runs_path / path for path in found.register.paths})
        supply = open_supply(found.rerun.origin is None)
        if supply is None:
            held.ranks.together(End(outcome="stopped"), lambda: None)
    if supply is None:
        yield None
        return
    retention = Retention(
        place.engine, held.lease, found.register, runs_path, keep=place.settings.keep_checkpoints
    )
    saver = Saver(found.register, held.journal.write, retention.tidy)
    with closing(supply), closing(saver):
        live = LiveRun(
            run_id=run.run_id,
            branch=run.branch,
            tips=found.tips,
            register=found.register,
            supply=supply,
            journal=held.journal,
            lease=held.lease,
            saver=saver,
            ranks=held.ranks,
            family=family,
            runs_path=runs_path,
            undoables=found.undoables,
        )
        inbox = partial(Inbox, place.engine, run.run_id, after=0)
        with closing(Boundary(live, found.rerun, inbox, stop_asked=place.stop_asked)) as boundary:
            yield boundary


@contextmanager
def _followed(
    place: Workplace,
    ranks: Other,
    run: Run,
    family: Family,
    open_supply: Callable[[bool], Supply | None],
) -> Iterator[Follower | None]:
    """The part of a rank that follows; an error here ends the process, which rank 0 notices."""
    supply = open_supply(False)
    assert supply is not None
    with closing(supply):
        followed = FollowedRun(run.run_id, family, supply, place.settings.runs_path)
        follower = Follower(followed, ranks)
        follower.begin()
        yield None if follower.is_over else follower


def _from_buffer(
    place: Workplace, run: Run, family: ModelFamily, is_new: bool
) -> BufferSupply | None:
    with read(place.engine) as session:
        mix = find_mix(session, MixChange(name=run.mix_name, version=run.mix_version))
    adopter = Adopter(place.engine, run.run_id, run.representation, run.environment)
    if is_new and not wait_for_samples(adopter, mix, place.stop_asked):
        return None
    sampler = MixSampler(mix.shares, options_of(run).seed or 0, mix.policies)
    reader = family.open_reader(place.engine, open_store(place.settings))
    return BufferSupply(
        place.engine,
        adopter,
        Stream(sampler, reader, family.batch_size, share=place.ranks.share),
        mix,
        family.collate,
        adopt_every_s=place.settings.adopt_every_s,
        # One that follows plans nothing, so it has nobody to tell.
        ranks=Alone() if isinstance(place.ranks, Other) else place.ranks,
    )


def _trainer(place: Workplace, run: Run, family: ModelFamily) -> InteractiveTrainer:
    options = options_of(run)
    arguments = TrainingArguments(
        output_dir=str(place.settings.runs_path / run.run_id),
        max_steps=run.max_steps,
        learning_rate=options.lr or family.learning_rate,
        lr_scheduler_type="constant",
        per_device_train_batch_size=family.batch_size // place.ranks.count,
        seed=options.seed or 0,
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        **family.optimizer_arguments(),
    )
    transformers.set_seed(arguments.seed)  # what a new model's weights are drawn from
    trainer = interactive(transformers.Trainer)(family.load_model(), arguments)
    trainer.remove_callback(PrinterCallback)
    return trainer


def wait_for_samples(
    adopter: Adopter,
    mix: MixVersion,
    stop_asked: threading.Event,
    timeout_s: float = SAMPLES_WAIT_S,
) -> bool:
    """Wait until each slice of the mix has a sample; False when asked to stop meanwhile.

    Raises NoSamples naming the empty slices after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    wanted = [name for name, share in mix.shares.items() if share > 0]
    said: list[str] = []
    while not stop_asked.is_set():
        plan = adopter.latest(wanted)
        empty = [name for name in wanted if plan is None or name not in plan.changes]
        if not empty:
            return True
        if empty != said:
            log.info("waiting_for_samples", slices=empty, at_most_s=timeout_s)
            said = empty
        if time.monotonic() > deadline:
            raise NoSamples(
                f"mix {mix.name!r}: no samples in {', '.join(empty)} after {timeout_s:g} s; "
                "look at the slice's filter, and whether replay and encode workers run"
            )
        stop_asked.wait(LOOK_FOR_SAMPLES_EVERY_S)
    return False
