"""kill -9, and what the next process makes of it: the same steps again, then what is pending."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select

from ingest.database import read
from ingest.ids import content_id
from tests.trainer.asking import Asked, Taken, ask_now, commands, recorded
from tests.trainer.doomed import NUM_AT_START, Doom, is_paused, train_to_death
from tests.trainer.tiny import Seen, Witness
from tests.waiting import wait_until
from trainer.run.training import Workplace
from trainer.tables import Adoption, Checkpoint, Run

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]
Kill = Callable[..., None]


@pytest.fixture
def kill(place: Workplace) -> Kill:
    """Trains in a process of its own until that kills itself."""
    return lambda **doom: train_to_death(place.settings, Doom(**doom))


def taken(steps: list[Seen]) -> list[Taken]:
    return [(step.lr, step.ids, step.loss) for step in steps]


def stop_after(place: Workplace, num_steps: int) -> Callable[[int], None]:
    def during(count: int) -> None:
        if count == num_steps:
            place.stop_asked.set()

    return during


def test_the_recorded_steps_are_taken_again_bit_for_bit(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    """Over rates, mixes and an adoption that came after the last checkpoint."""
    script: dict[int, list[Asked]] = {
        3: [("save", {"name": "good"})],
        5: [("set_lr", {"value": 0.3})],
        6: [("set_mix", {"name": "fresh"})],
        8: [("set_mix", {"name": "mix"}), ("set_lr", {"factor": 0.5})],
    }
    kill(script=script, samples_at=4, die_at=12)
    before = recorded(engine)
    with read(engine) as session:
        origin = max(session.scalars(select(Checkpoint.step)))
        adoptions = list(session.scalars(select(Adoption.number)))
    witness.during = stop_after(place, len(before) - origin + 2)
    assert training() == "stopped"
    again = [before[step] for step in range(origin + 1, len(before) + 1)]
    assert taken(witness.steps)[: len(again)] == again
    after = recorded(engine)
    assert {step: after[step] for step in before} == before
    assert len(after) == len(before) + 2
    assert max(number for _, ids, _ in before.values() for number in ids) > NUM_AT_START
    with read(engine) as session:
        assert list(session.scalars(select(Adoption.number)))[: len(adoptions)] == adoptions


def test_every_kind_of_tuning_is_done_again_bit_for_bit(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    """A schedule in its midst, interrupted, and gone on with by an undo; what follows from it."""
    cosine = {"shape": "cosine", "to": 0.001, "steps": 30, "warm_up_steps": 2}
    interruption = content_id(content_id("run", "run"), "8")
    kill(
        script={
            3: [("save", {"name": "good"}), ("set_lr", {"schedule": cosine})],
            4: [("set_optimizer", {"betas": [0.5, 0.9], "weight_decay": 0.2})],
            5: [("freeze", {"modules": ["layers.0"]}), ("set_optimizer", {"max_grad_norm": 0.1})],
            6: [("reset_parameters", {"modules": ["layers.2"]})],
            7: [("set_mix", {"weights": {"old": 3.0, "fresh": 1.0}})],
            8: [("set_lr", {"factor": 0.5, "group": "decay"})],
            10: [("undo", {"command": interruption})],
            12: [("unfreeze", {"modules": ["layers.0"]})],
        },
        die_at=16,
    )
    before = recorded(engine)
    assert {command.state for command in commands(engine)} == {"applied"}
    witness.during = stop_after(place, 14)
    assert training() == "stopped"
    again = [before[step] for step in range(4, len(before) + 1)]
    assert taken(witness.steps)[: len(again)] == again
    assert len({lr for lr, _, _ in before.values()}) > 10


def test_no_sample_is_lost_or_repeated_over_a_crash(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    kill(die_at=8)
    witness.during = stop_after(place, 10)
    training()
    drawn = [number for _, ids, _ in recorded(engine).values() for number in ids]
    assert sorted(drawn[:40]) == list(range(1, 41))


def test_what_is_pending_is_taken_after_the_recorded_steps(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    kill(die_at=8)
    ask_now(engine, "set_lr", value=0.7)
    witness.during = stop_after(place, 10)
    training()
    assert [step.lr for step in witness.steps] == [0.01] * 7 + [0.7] * 3
    [command] = commands(engine)
    assert (command.state, command.effective_step) == ("applied", 8)


def test_a_crash_on_a_held_branch_repeats_the_branch_and_goes_on_holding(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    """The branch has no checkpoint of its own yet."""
    rollback: Asked = (
        "rollback",
        {"checkpoint": "good", "branch": "b", "hold_data": True, "set_lr": {"factor": 0.5}},
    )
    kill(script={2: [("save", {"name": "good"})], 12: [rollback]}, samples_at=3, die_at=15)
    main, before = recorded(engine), recorded(engine, "b")
    witness.during = stop_after(place, 12)
    training()
    after = recorded(engine, "b")
    assert {step: after[step] for step in before} == before
    assert [ids for _, ids, _ in list(after.values())[:10]] == [
        main[step][1] for step in range(3, 13)
    ]
    assert {lr for lr, _, _ in after.values()} == {0.005}


def test_a_paused_run_that_was_killed_is_paused_again(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    kill(script={3: [("pause", {})]}, die_when_paused=True)

    def client() -> None:
        wait_until(lambda: len(witness.steps) >= 3 and is_paused(engine))
        assert len(witness.steps) == 3
        ask_now(engine, "resume")

    thread = threading.Thread(target=client)
    thread.start()
    witness.during = stop_after(place, 5)
    training()
    thread.join()
    assert len(witness.steps) == 5


def test_death_while_saving_leaves_the_checkpoint_before(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    kill(script={3: [("save", {"name": "good"})]}, die_in_checkpoint=3)
    before = recorded(engine)
    # On a busy machine the one before it is not all written, either.
    halves = list(place.settings.runs_path.glob("*/*/.writing-*"))
    witness.during = stop_after(place, len(before) - 3 + 1)
    training()
    assert halves
    assert not any(half.exists() for half in halves)
    assert taken(witness.steps)[:-1] == [before[step] for step in range(4, len(before) + 1)]


def test_a_run_that_was_stopped_goes_on_where_it_was(
    training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    witness.during = stop_after(place, 4)
    training(10)
    place.stop_asked.clear()
    witness.during = lambda _count: None
    assert training() == "finished"
    assert list(recorded(engine)) == list(range(1, 11))
    drawn = [number for _, ids, _ in recorded(engine).values() for number in ids]
    assert sorted(drawn) == list(range(1, 41))


def test_a_damaged_last_checkpoint_is_passed_over(
    kill: Kill, training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    kill(script={3: [("save", {"name": "good"})]}, die_at=8)
    [path] = place.settings.runs_path.glob("*/main/step-3/optimizer.pt")
    path.write_bytes(b"damaged")
    before = recorded(engine)
    witness.during = stop_after(place, 8)
    training()
    assert taken(witness.steps)[:7] == list(before.values())


def test_a_finished_run_is_not_started_again(training: Training, engine: Engine) -> None:
    training(3)
    with pytest.raises(RuntimeError, match="has finished"):
        training(3)
    with read(engine) as session:
        assert session.scalars(select(Run.state)).one() == "finished"
