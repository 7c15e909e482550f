"""Commands at step boundaries, judged from outside by a witness that asks amid a step."""

import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise

import pytest
import torch
from sqlalchemy import Engine, select

from ingest.database import read, write
from ingest.settings import Settings
from tests.trainer.asking import (
    ask_now,
    asking,
    commands,
    metric,
    the_run,
    wait_for_state,
)
from tests.trainer.runs import add_samples, make_mix
from tests.trainer.tiny import Seen, TinyFamily, Witness
from tests.waiting import wait_until
from trainer.mix.cohorts import unpack_numbers
from trainer.run.training import Workplace
from trainer.tables import Checkpoint, Command, Evaluation, Step

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]

OLD, FRESH = range(1, 41), range(41, 81)


def rates(steps: list[Seen]) -> list[float]:
    return [step.lr for step in steps]


def steps_of(engine: Engine, branch: str = "main") -> list[Step]:
    with read(engine) as session:
        rows = session.scalars(select(Step).where(Step.branch == branch).order_by(Step.step))
        return list(rows)


def test_a_rate_given_during_a_step_holds_from_the_next(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {3: [("set_lr", {"value": 0.5})]})
    training(6)
    assert rates(witness.steps) == [0.01, 0.01, 0.01, 0.5, 0.5, 0.5]


def test_a_factor_scales_the_rate_and_the_row_says_before_and_after(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {1: [("set_lr", {"factor": 0.5})]})
    training(3)
    assert rates(witness.steps) == [0.01, 0.005, 0.005]
    [command] = commands(engine)
    assert (command.state, command.effective_step, command.branch) == ("applied", 2, "main")
    assert (command.before_json, command.after_json) == ('{"lr": 0.01}', '{"lr": 0.005}')


def test_a_mix_given_during_a_step_holds_from_the_very_next_batch(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {3: [("set_mix", {"name": "fresh"})]})
    training(6)
    for index, step in enumerate(witness.steps):
        assert set(step.ids) <= set(OLD if index < 3 else FRESH)


def test_a_mix_change_costs_no_sample(training: Training, witness: Witness, engine: Engine) -> None:
    with write(engine) as session:
        make_mix(session, "both", old=0.5, fresh=0.5)
    witness.during = asking(engine, {3: [("set_mix", {"name": "both"})]})
    training(17)
    drawn = [number for step in witness.steps for number in step.ids if number in OLD]
    assert sorted(drawn) == list(OLD)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_command_given_in_a_micro_batch_leaves_its_step_as_it_began(
    training: Training, family: TinyFamily, engine: Engine, accumulation: int
) -> None:
    family.arguments = {"gradient_accumulation_steps": accumulation}
    asked = {3: [("set_lr", {"value": 0.5}), ("set_mix", {"name": "fresh"})]}
    once = asking(engine, asked)
    witness = family.witness
    witness.during = lambda count: once(count) if not commands(engine) else None
    training(5)
    assert rates(witness.steps) == [0.01, 0.01, 0.01, 0.5, 0.5]
    assert all(len(step.ids) == family.batch_size for step in witness.steps)
    assert set(witness.steps[2].ids) <= set(OLD)
    assert set(witness.steps[3].ids) <= set(FRESH)


def test_what_was_received_before_a_step_began_holds_in_it(
    training: Training, witness: Witness, engine: Engine
) -> None:
    """Any time, from another thread, against the client's clock: no step is ever stale."""
    received: list[tuple[float, float]] = []

    def client() -> None:
        for number in range(1, 21):
            lr = number / 1000
            command_id = ask_now(engine, "set_lr", value=lr)
            wait_for_state(engine, command_id, "received", "applying", "applied")
            received.append((time.time(), lr))

    thread = threading.Thread(target=client)

    def during(count: int) -> None:
        if count == 1 and not thread.ident:
            thread.start()
        if count == 40:
            thread.join()

    witness.during = during
    training(42)
    assert len(received) == 20
    for step in steps_of(engine):
        in_force = [lr for at, lr in received if at < step.started_at]
        assert not in_force or step.lr >= in_force[-1]
    assert witness.steps[-1].lr == 0.02


def test_a_burst_is_settled_in_order(training: Training, witness: Witness, engine: Engine) -> None:
    burst = [("set_lr", {"value": number / 1000}) for number in range(1, 101)]
    witness.during = asking(engine, {2: burst})
    training(4)
    assert rates(witness.steps) == [0.01, 0.01, 0.1, 0.1]
    settled = commands(engine)
    assert {command.state for command in settled} == {"applied"}
    times = [command.settled_at for command in settled]
    assert times == sorted(times)


def test_the_recorded_steps_are_what_was_seen(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {2: [("set_lr", {"value": 0.3})]})
    training(5)
    recorded = steps_of(engine)
    assert [step.lr for step in recorded] == rates(witness.steps)
    assert [unpack_numbers(step.samples).tolist() for step in recorded] == [
        step.ids for step in witness.steps
    ]
    assert list(metric(engine, "loss").values()) == [step.loss for step in witness.steps]


def test_a_paused_run_takes_no_step_and_applies_everything_at_once(
    training: Training, witness: Witness, engine: Engine
) -> None:
    def client() -> None:
        wait_until(lambda: the_run(engine).state == "paused")
        paused_at = len(witness.steps)
        lr, mix = (
            ask_now(engine, "set_lr", value=0.5),
            ask_now(engine, "set_mix", name="fresh"),
        )
        for command_id in (lr, mix):
            wait_for_state(engine, command_id, "applied")
        assert len(witness.steps) == paused_at
        ask_now(engine, "resume")

    thread = threading.Thread(target=client)
    pause = asking(engine, {3: [("pause", {})]})

    def during(count: int) -> None:
        pause(count)
        if count == 3:
            thread.start()

    witness.during = during
    assert training(6) == "finished"
    thread.join()
    assert rates(witness.steps) == [0.01, 0.01, 0.01, 0.5, 0.5, 0.5]
    assert set(witness.steps[3].ids) <= set(FRESH)
    assert [command.effective_step for command in commands(engine)] == [4, 4, 4, 4]


def test_a_saved_checkpoint_is_listed_with_its_name_and_note(
    training: Training, witness: Witness, engine: Engine, settings: Settings
) -> None:
    witness.during = asking(engine, {2: [("save", {"name": "good", "note": "before lunch"})]})
    training(3)
    with read(engine) as session:
        saved = session.scalars(select(Checkpoint).where(Checkpoint.name == "good")).one()
    assert (saved.branch, saved.step, saved.note) == ("main", 2, "before lunch")
    folder = settings.runs_path / saved.path
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= {
        path.name for path in folder.iterdir()
    }
    assert torch.load(folder / "optimizer.pt", weights_only=True)["state"]


def test_checkpoints_come_by_themselves(
    training: Training, family: TinyFamily, engine: Engine
) -> None:
    family.save_every = 2
    training(5)
    with read(engine) as session:
        steps = session.scalars(select(Checkpoint.step).order_by(Checkpoint.step)).all()
    assert steps == [0, 2, 4, 5]


def test_a_full_disk_fails_the_command_and_training_goes_on(
    training: Training, family: TinyFamily, engine: Engine
) -> None:
    ask_to_save = asking(engine, {2: [("save", {"name": "good"})]})

    def during(count: int) -> None:
        family.disk_is_full = count == 2
        ask_to_save(count)

    family.witness.during = during
    assert training(4) == "finished"
    [command] = commands(engine)
    assert command.state == "failed"
    assert "No space left" in (command.error or "")
    assert len(family.witness.steps) == 4


def test_evaluate_saves_the_step_and_asks_for_its_judgement(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {2: [("evaluate", {"suite": "fresh"})]})
    training(4)
    [command] = commands(engine)
    with read(engine) as session:
        evaluation = session.scalars(select(Evaluation)).one()
        checkpoint = session.get_one(Checkpoint, evaluation.checkpoint_id)
    assert (evaluation.suite, evaluation.state) == ("fresh", "waiting")
    assert evaluation.command_id == command.command_id
    assert checkpoint.step == 2
    assert command.state == "applied"


def test_what_can_not_be_done_is_rejected_and_changes_nothing(
    training: Training, witness: Witness, engine: Engine
) -> None:
    with_name = [("save", {"name": "good"}), ("save", {"name": "good"})]
    witness.during = asking(engine, {2: with_name, 3: [("set_lr", {"factor": 1e5})]})
    assert training(5) == "finished"
    first, second, factor = commands(engine)
    assert [c.state for c in (first, second, factor)] == ["applied", "rejected", "rejected"]
    assert "good" in (second.error or "")
    assert rates(witness.steps) == [0.01] * 5


def test_a_row_that_no_command_parses_from_is_rejected(
    training: Training, witness: Witness, engine: Engine
) -> None:
    def during(count: int) -> None:
        if count == 2:
            command_id = ask_now(engine, "set_lr", value=0.5)
            with write(engine) as session:
                session.get_one(Command, command_id).args_json = '{"value": -1}'

    witness.during = during
    assert training(4) == "finished"
    # The listener may have taken the row before it was spoilt: then it was a good command.
    [command] = commands(engine)
    assert command.state in ("rejected", "applied")
    assert (witness.steps[-1].lr == 0.5) == (command.state == "applied")


def test_a_loss_that_is_not_a_number_is_recorded_and_ends_nothing(
    training: Training, family: TinyFamily, engine: Engine
) -> None:
    model = family.load_model()
    family.load_model = lambda: model  # type: ignore[method-assign]  # to spoil it on the way

    def during(count: int) -> None:
        if count == 2:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)

    family.witness.during = during
    assert training(4) == "finished"
    losses = metric(engine, "loss")
    assert losses[2] is not None
    assert losses[3] is None


def test_fresh_samples_are_adopted_while_training(
    training: Training, family: TinyFamily, place: Workplace, engine: Engine
) -> None:
    fresh = set(range(81, 111))

    def during(count: int) -> None:
        if count == 2:
            add_samples(engine, "old", len(fresh))
        if family.witness.steps and fresh & set(family.witness.steps[-1].ids):
            place.stop_asked.set()

    family.witness.during = during
    assert training(100_000) == "stopped"


def test_a_locked_database_makes_no_step_wait_and_loses_nothing(
    training: Training, witness: Witness, engine: Engine, settings: Settings
) -> None:
    steps_s: list[float] = []
    with closing(sqlite3.connect(settings.data / "stovetop.db", isolation_level=None)) as other:

        def during(count: int) -> None:
            steps_s.append(time.monotonic())
            if count == 5:
                other.execute("BEGIN IMMEDIATE")
            if count == 100:
                other.execute("ROLLBACK")

        witness.during = during
        training(110)
    assert max(after - before for before, after in pairwise(steps_s)) < 1.0
    assert len(metric(engine, "loss")) == 110
