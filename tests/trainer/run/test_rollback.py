"""Going back: exactly what was saved, on a branch of its own, the tip kept."""

from collections.abc import Callable

from sqlalchemy import Engine, select

from ingest.database import read
from ingest.settings import Settings
from tests.trainer.asking import Asked, all_settled, ask_now, asking, commands, metric
from tests.trainer.runs import add_samples
from tests.trainer.tiny import Seen, Witness
from tests.waiting import wait_until
from trainer.run.training import Workplace
from trainer.tables import Adoption, Branch, Checkpoint, Run

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]
NUM_AT_START = 80
SAVED_AT = 3
TIP = 18
HOLD: Asked = ("rollback", {"checkpoint": "good", "branch": "again", "hold_data": True})
SAVE: Asked = ("save", {"name": "good"})


def seen(steps: list[Seen]) -> list[tuple[float, list[int], float]]:
    return [(step.lr, step.ids, step.loss) for step in steps]


class Tale:
    """Samples come at step 6; once any was drawn and 15 steps are done, the run rolls back.

    It ends 3 steps after the new branch has reached the tip.
    """

    def __init__(self, engine: Engine, place: Workplace, witness: Witness) -> None:
        self.tip = 0
        self._engine = engine
        self._place = place
        self._witness = witness
        self._save = asking(engine, {SAVED_AT: [SAVE]})

    def __call__(self, count: int) -> None:
        self._save(count)
        if count == SAVED_AT + 3:
            add_samples(self._engine, "old", 8)
        if not self.tip and count > SAVED_AT + 12 and drew_fresh(self._witness.steps):
            ask_now(self._engine, HOLD[0], **HOLD[1])
            self.tip = count
        if self.tip and count == 2 * self.tip - SAVED_AT + 3:
            self._place.stop_asked.set()


def drew_fresh(steps: list[Seen]) -> bool:
    return any(number > NUM_AT_START for step in steps for number in step.ids)


def test_with_held_data_everything_repeats_bit_for_bit(
    training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    """Dropout on, over more than 12 steps, with an adoption of fresh samples among them."""
    witness.during = tale = Tale(engine, place, witness)
    training(100_000)
    first = witness.steps[SAVED_AT : tale.tip]
    again = witness.steps[tale.tip : 2 * tale.tip - SAVED_AT]
    assert drew_fresh(first)
    assert seen(again) == seen(first)
    old, new = metric(engine, "loss"), metric(engine, "loss", "again")
    assert [new[step] for step in range(SAVED_AT + 1, tale.tip + 1)] == [
        old[step] for step in range(SAVED_AT + 1, tale.tip + 1)
    ]


def test_a_held_line_takes_over_nothing_new_before_it_has_repeated(
    training: Training, witness: Witness, engine: Engine
) -> None:
    script = asking(engine, {SAVED_AT: [SAVE], TIP: [HOLD]})

    def during(count: int) -> None:
        script(count)
        if count == TIP:
            add_samples(engine, "old", 8)

    witness.during = during
    training(TIP + 4)
    again = witness.steps[TIP : 2 * TIP - SAVED_AT]
    assert seen(again) == seen(witness.steps[SAVED_AT:TIP])
    with read(engine) as session:
        newest = session.scalars(select(Adoption).order_by(Adoption.number.desc())).first()
    assert newest is not None
    assert (newest.branch, newest.effective_step) == ("again", TIP + 1)


def test_without_it_the_newest_samples_are_taken_over_at_once(
    training: Training, witness: Witness, engine: Engine
) -> None:
    rollback: Asked = ("rollback", {"checkpoint": "main-0", "branch": "anew"})
    script = asking(engine, {5: [rollback]})

    def during(count: int) -> None:
        if count == 5:
            add_samples(engine, "old", 400)
        script(count)

    witness.during = during
    training(8)
    assert any(number > NUM_AT_START for number in witness.steps[5].ids)


def test_changes_given_with_a_rollback_hold_from_its_first_step(
    training: Training, witness: Witness, engine: Engine
) -> None:
    rollback: Asked = (
        "rollback",
        {"checkpoint": "good", "set_lr": {"factor": 0.5}, "set_mix": {"name": "fresh"}},
    )
    witness.during = asking(engine, {2: [SAVE, ("set_lr", {"value": 0.4})], 4: [rollback]})
    training(5)
    assert [step.lr for step in witness.steps] == [0.01, 0.01, 0.4, 0.4, 0.005, 0.005, 0.005]
    assert all(number > 40 for step in witness.steps[4:] for number in step.ids)


def test_the_tip_is_saved_first_so_that_a_rollback_can_be_undone(
    training: Training, witness: Witness, engine: Engine
) -> None:
    undo: Asked = ("rollback", {"checkpoint": "main-6", "branch": "undone"})
    script = {2: [SAVE], 6: [("rollback", {"checkpoint": "good", "branch": "b"})], 8: [undo]}
    witness.during = asking(engine, script)
    training(10)
    assert [command.state for command in commands(engine)] == ["applied"] * 3
    assert sorted(metric(engine, "loss", "undone")) == [7, 8, 9, 10]


def test_metrics_and_checkpoints_stay_on_the_branch_that_made_them(
    training: Training, witness: Witness, engine: Engine, settings: Settings
) -> None:
    rollback: Asked = ("rollback", {"checkpoint": "good", "branch": "b"})
    witness.during = asking(engine, {2: [SAVE], 5: [rollback], 6: [("save", {"name": "three-b"})]})
    training(6)
    assert sorted(metric(engine, "loss")) == [1, 2, 3, 4, 5]
    assert sorted(metric(engine, "loss", "b")) == [3, 4, 5, 6]
    with read(engine) as session:
        branch = session.scalars(select(Branch).where(Branch.name == "b")).one()
        paths = session.scalars(select(Checkpoint.path)).all()
    assert (branch.parent, branch.from_step) == ("main", 2)
    assert len(set(paths)) == len(paths)
    assert all((settings.runs_path / path / "manifest.json").exists() for path in paths)


def test_a_rollback_after_the_last_step_goes_on(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {2: [SAVE], 5: [("rollback", {"checkpoint": "good"})]})
    assert training(5) == "finished"
    assert len(witness.steps) == 8
    with read(engine) as session:
        assert session.scalars(select(Run.branch)).one() == "rollback-1"


def test_a_held_line_can_be_held_again(
    training: Training, witness: Witness, engine: Engine, place: Workplace
) -> None:
    """From a checkpoint that was made while the branch repeated its parent."""
    tale = Tale(engine, place, witness)
    second: Asked = ("rollback", {"checkpoint": "mid", "branch": "once-more", "hold_data": True})
    tips: list[int] = []

    def during(count: int) -> None:
        if not tale.tip or count < tale.tip + 2:
            tale(count)
        elif count == tale.tip + 2:
            ask_now(engine, "save", name="mid")
        elif count == 2 * tale.tip - SAVED_AT:
            ask_now(engine, second[0], **second[1])
            tips.append(count)
        elif tips and count == tips[0] + tale.tip - SAVED_AT:
            place.stop_asked.set()

    witness.during = during
    training(100_000)
    first, again = witness.steps[SAVED_AT : tale.tip], witness.steps[tale.tip : tips[0]]
    assert drew_fresh(first)
    assert seen(again) == seen(first)
    assert seen(witness.steps[tips[0] :])[: len(first) - 2] == seen(first[2:])


def test_a_damaged_checkpoint_fails_the_rollback_and_changes_nothing(
    training: Training, witness: Witness, engine: Engine, settings: Settings
) -> None:
    ask_all = asking(engine, {2: [SAVE], 4: [HOLD]})

    def during(count: int) -> None:
        if count == 4:
            wait_until(lambda: all_settled(engine))
            [path] = settings.runs_path.glob("*/main/step-2/model.safetensors")
            path.write_bytes(b"damaged")
        ask_all(count)

    witness.during = during
    assert training(6) == "finished"
    rollback = commands(engine)[-1]
    assert rollback.state == "failed"
    assert "does not match its checksum" in (rollback.error or "")
    assert sorted(metric(engine, "loss")) == [1, 2, 3, 4, 5, 6]
