"""Undo in a real run: what was in force before is again, and only while nothing came after it."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from ingest.database import read, write
from tests.trainer.asking import (
    Asked,
    all_settled,
    ask_now,
    asking,
    commands,
    metric,
    the_run,
    wait_until,
)
from tests.trainer.runs import ask
from tests.trainer.stepping import NAMES, Steps
from tests.trainer.tiny import Seen, Witness
from trainer.commands.undoing import NotUndoable, load_undoables
from trainer.run.training import Workplace

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]

LINE: Asked = ("set_lr", {"schedule": {"shape": "linear", "to": 0.005, "steps": 5}})
SAVE: Asked = ("save", {"name": "good"})
BACK: Asked = ("rollback", {"checkpoint": "good", "branch": "b"})


def last_of(engine: Engine, kind: str) -> str:
    """The id of the last command of a kind, once every command is settled."""
    wait_until(lambda: all_settled(engine))
    return [c for c in commands(engine) if c.kind == kind][-1].command_id


def undoing(
    engine: Engine, script: dict[int, list[Asked]], undo: dict[int, str]
) -> Callable[[int], None]:
    """In its n-th step a run is asked for what the script says, then to undo the last of a kind."""
    during = asking(engine, script)

    def do(count: int) -> None:
        during(count)
        if count in undo:
            ask_now(engine, "undo", command=last_of(engine, undo[count]))

    return do


def seen(steps: list[Seen]) -> list[tuple[float, list[int], float]]:
    return [(step.lr, step.ids, step.loss) for step in steps]


def test_an_undone_rate_is_the_one_before(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = undoing(engine, {1: [("set_lr", {"value": 0.5})]}, {3: "set_lr"})
    training(5)
    assert [step.lr for step in witness.steps] == [0.01, 0.5, 0.5, 0.01, 0.01]
    [lr, undo] = commands(engine)
    assert undo.reason == "undoes set_lr #1"
    assert (undo.before_json, undo.after_json) == (lr.after_json, lr.before_json)


def test_an_interrupted_schedule_goes_on_where_it_stood(
    training: Training, witness: Witness, engine: Engine
) -> None:
    script = {1: [LINE], 3: [("set_lr", {"value": 0.5})]}
    witness.during = undoing(engine, script, {5: "set_lr"})
    training(8)
    assert [step.lr for step in witness.steps] == pytest.approx(
        [0.01, 0.009, 0.008, 0.5, 0.5, 0.007, 0.006, 0.005]
    )


def test_the_rates_of_groups_come_back_one_by_one(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    script: dict[int, list[Asked]] = {
        1: [("set_lr", {"value": 0.5, "group": "decay"})],
        2: [("set_lr", {"value": 0.1})],
    }
    witness.during = undoing(engine, script, {3: "set_lr"})
    training(4)
    assert [[group["lr"] for group in step.groups] for step in steps] == [
        [0.01, 0.01],
        [0.5, 0.01],
        [0.1, 0.1],
        [0.5, 0.01],
    ]


def test_the_optimizer_s_settings_come_back(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    asked = {"betas": [0.5, 0.6], "weight_decay": 0.3, "max_grad_norm": 1e-3}
    witness.during = undoing(engine, {1: [("set_optimizer", asked)]}, {2: "set_optimizer"})
    training(3)
    assert steps[1].groups != steps[0].groups
    assert steps[2].groups == steps[0].groups
    assert steps[1].norm < 1.01e-3 < steps[2].norm


def test_a_freeze_is_undone_and_so_is_an_unfreeze(
    training: Training, witness: Witness, steps: Steps, engine: Engine
) -> None:
    first: dict[str, object] = {"modules": ["layers.0"]}
    script: dict[int, list[Asked]] = {
        1: [("freeze", first)],
        3: [("freeze", first)],
        4: [("unfreeze", first)],
    }
    witness.during = undoing(engine, script, {2: "freeze", 5: "unfreeze"})
    training(6)
    still = {"layers.0.weight", "layers.0.bias"}
    assert [set(NAMES) - step.moved for step in steps] == [
        set(),
        still,
        set(),
        still,
        set(),
        still,
    ]


def test_a_mix_is_undone(training: Training, witness: Witness, engine: Engine) -> None:
    witness.during = undoing(engine, {1: [("set_mix", {"name": "fresh"})]}, {2: "set_mix"})
    training(4)
    is_old = [all(number <= 40 for number in step.ids) for step in witness.steps]
    assert is_old == [True, False, True, True]


def test_a_pause_is_undone(training: Training, witness: Witness, engine: Engine) -> None:
    def client() -> None:
        wait_until(lambda: the_run(engine).state == "paused")
        ask_now(engine, "undo", command=last_of(engine, "pause"))

    thread = threading.Thread(target=client)
    pause = asking(engine, {2: [("pause", {})]})

    def during(count: int) -> None:
        pause(count)
        if count == 2:
            thread.start()

    witness.during = during
    assert training(4) == "finished"
    thread.join()
    assert len(witness.steps) == 4


def test_a_rollback_is_undone_and_its_tip_goes_on_as_if_nothing_had_been(
    training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    """Bit for bit the same as from a checkpoint of the very moment before."""
    again: Asked = ("rollback", {"checkpoint": "tip", "branch": "again"})
    script: dict[int, list[Asked]] = {2: [SAVE], 5: [("save", {"name": "tip"}), BACK]}
    during = undoing(engine, script, {7: "rollback"})

    def both(count: int) -> None:
        during(count)
        if count == 10:
            ask_now(engine, again[0], **again[1])
        if count == 13:
            place.stop_asked.set()

    witness.during = both
    training(100)
    assert seen(witness.steps[7:10]) == seen(witness.steps[10:13])
    assert sorted(metric(engine, "loss", "rollback-1")) == [6, 7, 8]
    assert the_run(engine).branch == "again"


def test_what_was_undone_makes_way_for_the_one_before_it(
    training: Training, witness: Witness, engine: Engine
) -> None:
    rates = asking(engine, {1: [("set_lr", {"value": 0.5})], 2: [("set_lr", {"value": 0.3})]})

    def undo_both(count: int) -> None:
        rates(count)
        wait_until(lambda: count < 3 or all_settled(engine))
        if count == 3:
            ask_now(engine, "undo", command=commands(engine)[1].command_id)
        if count == 4:
            ask_now(engine, "undo", command=commands(engine)[0].command_id)

    witness.during = undo_both
    training(5)
    assert [step.lr for step in witness.steps] == [0.01, 0.5, 0.3, 0.5, 0.01]


REFUSED: dict[str, tuple[list[Asked], str, str]] = {
    "an earlier one": (
        [("set_lr", {"value": 0.5}), ("set_lr", {"value": 0.3})],
        "set_lr",
        "set_lr #2 came after it; undo that first",
    ),
    "the other of a pair": (
        [("freeze", {"modules": ["layers.0"]}), ("unfreeze", {"modules": ["layers.0"]})],
        "freeze",
        "unfreeze #2 came after it; undo that first",
    ),
    "a kind without an undo": ([SAVE], "save", "save can't be undone"),
    "one that was rejected": (
        [("freeze", {"modules": ["nothing"]})],
        "freeze",
        "it is rejected, and only what was applied can be undone",
    ),
    "one of another branch": (
        [SAVE, ("set_lr", {"value": 0.5}), BACK],
        "set_lr",
        "it belongs to branch 'main', and the run is on 'b'",
    ),
}


@pytest.mark.parametrize(("asked", "kind", "reason"), REFUSED.values(), ids=REFUSED)
def test_an_undo_is_refused_with_the_reason(
    training: Training,
    witness: Witness,
    engine: Engine,
    *,
    asked: list[Asked],
    kind: str,
    reason: str,
) -> None:
    def during(count: int) -> None:
        asking(engine, {1: asked})(count)
        if count == 3:
            wait_until(lambda: all_settled(engine))
            wanted = next(c for c in commands(engine) if c.kind == kind)
            with pytest.raises(NotUndoable) as refusal:
                ask_now(engine, "undo", command=wanted.command_id)
            assert refusal.value.detail.startswith(reason)

    witness.during = during
    training(4)
    assert "undo" not in [command.kind for command in commands(engine)]


def test_an_undo_is_refused_twice_over(
    training: Training, witness: Witness, engine: Engine
) -> None:
    """While the first is on its way, and once it holds."""

    def during(count: int) -> None:
        asking(engine, {1: [("set_lr", {"value": 0.5})]})(count)
        if count in (3, 4):
            wait_until(lambda: all_settled(engine))
        lr = commands(engine)[0].command_id
        if count == 3:
            ask_now(engine, "undo", command=lr)
            with pytest.raises(NotUndoable, match="undo #2 is on its way"):
                ask_now(engine, "undo", command=lr)
        if count == 4:
            with pytest.raises(NotUndoable, match="was undone before"):
                ask_now(engine, "undo", command=lr)

    witness.during = during
    training(5)


def test_the_trainer_asks_again_where_rows_lagged_behind(
    training: Training, witness: Witness, engine: Engine
) -> None:
    """An undo that was stored just before another rate came, by a number that is later."""

    def during(count: int) -> None:
        asking(engine, {1: [("set_lr", {"value": 0.5})]})(count)
        if count == 2:
            with write(engine) as session:
                identity = the_run(engine).run_id
                first = commands(engine)[0].command_id
                ask(session, "set_lr", identity, value=0.3)
                undo = ask(session, "pause", identity)
                undo.kind, undo.args_json = "undo", f'{{"command": "{first}"}}'

    witness.during = during
    assert training(4) == "finished"
    assert [step.lr for step in witness.steps] == [0.01, 0.5, 0.3, 0.3]
    undo = commands(engine)[-1]
    assert (undo.state, undo.error) == (
        "rejected",
        "command: set_lr #2 came after it; undo that first",
    )


def test_what_may_be_undone_is_read_again_when_a_run_is_taken_over(
    training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    script = asking(engine, {1: [("set_lr", {"value": 0.5})]})

    def until_three(count: int) -> None:
        script(count)
        if count == 3:
            place.stop_asked.set()

    witness.during = until_three
    training(8)
    place.stop_asked.clear()
    run = the_run(engine)
    with read(engine) as session:
        assert load_undoables(session, run.run_id, "main").find(last_of(engine, "set_lr"))

    witness.during = undoing(engine, {}, {5: "set_lr"})
    training(8)
    assert [step.lr for step in witness.steps] == [0.01, *[0.5] * 4, *[0.01] * 3]
