"""A run's outer life: how it begins, waits, ends, and what is written about that."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select

from ingest.database import read, write
from ingest.tables import Placement, Shard
from tests.trainer.asking import ask_now, asking, commands, the_run
from tests.trainer.runs import add_samples, make_mix
from tests.trainer.tiny import TinyFamily, Witness
from tests.waiting import wait_until
from trainer.commands.kinds import MixChange
from trainer.commands.references import CommandRefused, find_mix
from trainer.mix.adopt import Adopter
from trainer.run.training import NoSamples, Workplace, wait_for_samples
from trainer.tables import Checkpoint, Run

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]


def test_a_run_that_takes_its_steps_is_finished_and_free(
    training: Training, engine: Engine
) -> None:
    assert training(3) == "finished"
    run = the_run(engine)
    assert (run.state, run.step, run.holder) == ("finished", 3, None)


def test_a_new_run_needs_a_mix(training: Training) -> None:
    with pytest.raises(CommandRefused, match="a new run needs one"):
        training(3, mix=None)


def test_a_new_run_waits_for_samples_of_every_slice(
    training: Training, witness: Witness, engine: Engine
) -> None:
    with write(engine) as session:
        make_mix(session, "both", old=0.5, coming=0.5)
    thread = threading.Thread(target=lambda: _add_once_started(engine))
    thread.start()
    assert training(3, mix="both") == "finished"
    thread.join()
    assert any(number > 80 for number in witness.steps[0].ids)


def test_a_slice_that_stays_empty_is_named(engine: Engine, place: Workplace) -> None:
    with write(engine) as session:
        make_mix(session, "both", old=0.5, coming=0.5)
        mix = find_mix(session, MixChange(name="both"))
    adopter = Adopter(engine, "run", "latent:tiny", "drawn/1")
    with pytest.raises(NoSamples, match="no samples in coming after 0"):
        wait_for_samples(adopter, mix, place.stop_asked, timeout_s=0.0)


def test_a_run_without_samples_waits_and_goes_on_obeying(
    training: Training, witness: Witness, engine: Engine
) -> None:
    """A mix of a slice that nobody has used yet is asked for, and taken back."""
    with write(engine) as session:
        make_mix(session, "empty", coming=1.0)
    witness.during = asking(engine, {2: [("set_mix", {"name": "empty"})]})

    def client() -> None:
        wait_until(lambda: bool(commands(engine)) and commands(engine)[0].state == "applied")
        ask_now(engine, "set_mix", name="mix")

    thread = threading.Thread(target=client)
    thread.start()
    assert training(4) == "finished"
    thread.join()
    assert [command.effective_step for command in commands(engine)] == [3, 3]


def test_a_damaged_shard_is_quarantined_and_training_goes_on(
    training: Training, family: TinyFamily, engine: Engine
) -> None:
    with read(engine) as session:
        [shard] = session.scalars(select(Shard).join(Placement).where(Placement.sample_number == 5))
        lost = set(
            session.scalars(
                select(Placement.sample_number).where(Placement.shard_id == shard.shard_id)
            )
        )
    family.damaged = dict.fromkeys(lost, shard.path)
    assert training(12) == "finished"
    drawn = {number for step in family.witness.steps for number in step.ids}
    assert not drawn & lost
    with read(engine) as session:
        assert session.get_one(Shard, shard.shard_id).state == "quarantined"


def test_stop_saves_and_ends_the_run_and_what_comes_after_it_expires(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {3: [("stop", {}), ("set_lr", {"value": 0.5})]})
    assert training(6) == "stopped"
    assert len(witness.steps) == 3
    assert [command.state for command in commands(engine)] == ["applied", "expired"]
    with read(engine) as session:
        names = set(session.scalars(select(Checkpoint.name)))
    assert names == {"main-0", "main-3"}
    assert the_run(engine).state == "stopped"


def test_a_signal_to_stop_ends_even_a_paused_run(
    training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    witness.during = asking(engine, {2: [("pause", {})]})

    def client() -> None:
        wait_until(lambda: bool(witness.steps) and the_run(engine).state == "paused")
        place.stop_asked.set()

    thread = threading.Thread(target=client)
    thread.start()
    assert training(6) == "stopped"
    thread.join()
    assert len(witness.steps) == 2


def test_a_run_that_was_taken_over_writes_nothing_more(
    training: Training, witness: Witness, engine: Engine
) -> None:
    def during(count: int) -> None:
        if count == 3:
            with write(engine) as session:
                run = session.get_one(Run, the_run(engine).run_id)
                run.fence += 1
                run.holder = "elsewhere/1/1"

    witness.during = during
    with pytest.raises(RuntimeError, match="taken over"):
        training(100_000)
    run = the_run(engine)
    assert (run.holder, run.state != "failed") == ("elsewhere/1/1", True)


def test_an_error_in_the_training_fails_the_run_and_says_why(
    training: Training, witness: Witness, engine: Engine
) -> None:
    def during(count: int) -> None:
        if count == 3:
            raise MemoryError("no memory left")

    witness.during = during
    with pytest.raises(MemoryError):
        training(5)
    run = the_run(engine)
    assert (run.state, run.error, run.holder) == ("failed", "MemoryError: no memory left", None)


def _add_once_started(engine: Engine) -> None:
    def has_started() -> bool:
        with read(engine) as session:
            return session.scalar(select(Run.holder)) is not None

    wait_until(has_started)
    add_samples(engine, "coming", 8)
