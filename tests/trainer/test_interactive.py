"""Anybody's Trainer in two lines: their dataset, every command but the mix, exactly."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import transformers
from sqlalchemy import Engine, select
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ingest.database import open_engine, read, write
from ingest.settings import Settings
from tests.trainer import own
from tests.trainer.asking import all_settled, ask_now, asking, commands, metric, the_run
from tests.trainer.own import NUM_SAMPLES, Net, Script, own_trainer
from tests.trainer.runs import make_mix
from tests.waiting import wait_until
from trainer.interactive import OwnTrainer, make_interactive
from trainer.loop.interactive import live_schedule
from trainer.run.dataset_supply import UnusableDataset
from trainer.run.rows import RunFinished
from trainer.tables import Checkpoint, Run

Ran = tuple[list[list[int]], list[float]]


@pytest.fixture(autouse=True)
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured one: the run registers there and starts no server."""
    monkeypatch.setenv("STOVETOP_DATA", str(settings.data))


@contextmanager
def scripted(script: Script) -> Iterator[Script]:
    hook = register_optimizer_step_pre_hook(script.step)
    try:
        yield script
    finally:
        hook.remove()


def ran(trainer: OwnTrainer) -> Ran:
    assert isinstance(trainer.model, Net)
    return trainer.model.indices, trainer.model.losses


def test_the_constructor_stays_as_it_was(tmp_path: Path) -> None:
    for base in (transformers.Trainer, transformers.Seq2SeqTrainer, own.Authors):
        interactive = make_interactive(base)
        assert issubclass(interactive, base)
        assert inspect.signature(interactive) == inspect.signature(base)
    by_place = make_interactive(own.Authors)(Net(), own_trainer(tmp_path).args)
    assert isinstance(by_place, own.Authors)


def test_a_class_made_of_an_interactive_one_has_a_constructor_of_its_own(tmp_path: Path) -> None:
    class Mine(make_interactive(own.Authors)):  # type: ignore[misc]  # a class made at run time
        def __init__(self, note: str, **kwargs: object) -> None:
            super().__init__(**kwargs)
            self.note = note

    usual = own_trainer(tmp_path, max_steps=1)
    mine = Mine("mine", model=Net(), args=usual.args, train_dataset=own.Waves())
    mine.train()
    assert list(inspect.signature(Mine).parameters) == ["note", "kwargs"]
    assert (mine.note, mine.state.global_step) == ("mine", 1)


def test_it_trains_through_every_sample_once_an_epoch(tmp_path: Path, engine: Engine) -> None:
    trainer = own_trainer(tmp_path / "net", num_train_epochs=2, max_steps=-1)
    trainer.train()
    indices, _losses = ran(trainer)
    assert trainer.state.global_step == 26
    assert trainer.state.epoch == 2.0
    for epoch in (indices[:13], indices[13:]):
        assert sorted(n for batch in epoch for n in batch) == list(range(NUM_SAMPLES))
    assert indices[:13] != indices[13:]
    with read(engine) as session:
        run = session.scalars(select(Run)).one()
    assert (run.name, run.recipe, run.state) == ("net", "Authors", "finished")
    assert sorted(metric(engine, "loss")) == list(range(1, 27))


def test_its_samples_come_in_the_order_of_the_plain_trainer(tmp_path: Path) -> None:
    plain = own.Authors(
        model=Net(),
        args=own_trainer(tmp_path / "net").args,
        train_dataset=own.Waves(),
    )
    plain.train()
    trainer = own_trainer(tmp_path / "net")
    trainer.train()
    assert isinstance(plain.model, Net)
    assert ran(trainer)[0] == plain.model.indices


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup", "polynomial"])
def test_the_rates_are_those_of_its_own_schedule(tmp_path: Path, kind: str) -> None:
    asked = {"lr_scheduler_type": kind, "warmup_steps": 3}
    seen = []
    for trainer in (
        own.Authors(Net(), own_trainer(tmp_path, **asked).args, train_dataset=own.Waves()),
        own_trainer(tmp_path, **asked),
    ):
        with scripted(Script()) as script:
            trainer.train()
        seen.append(script.rates)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 2


def test_a_rate_that_is_set_holds_from_the_next_step_and_an_undo_returns_to_the_schedule(
    tmp_path: Path, engine: Engine
) -> None:
    trainer = own_trainer(tmp_path, lr_scheduler_type="linear")
    with scripted(Script()) as script:

        def during(count: int) -> None:
            if count == 3:
                ask_now(engine, "set_lr", value=0.5)
            if count == 6:
                wait_until(lambda: all_settled(engine))
                ask_now(engine, "undo", command=commands(engine)[0].command_id)

        script.during = during
        trainer.train()
    schedule = [0.01 * (10 - step) / 10 for step in range(10)]
    assert script.rates == pytest.approx([*schedule[:3], 0.5, 0.5, 0.5, *schedule[6:]])
    assert [command.state for command in commands(engine)] == ["applied", "applied"]
    assert live_schedule(trainer).follows == [True] * len(live_schedule(trainer).rates)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_after_a_rollback_samples_and_losses_repeat_bit_for_bit(
    tmp_path: Path, engine: Engine, num_workers: int, accumulation: int
) -> None:
    trainer = own_trainer(
        tmp_path,
        max_steps=25,
        dataloader_num_workers=num_workers,
        gradient_accumulation_steps=accumulation,
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=4,
    )
    script = {
        5: [("save", {"name": "good"})],
        25: [("rollback", {"checkpoint": "good", "hold_data": True})],
    }
    with scripted(Script(asking(engine, script))):
        trainer.train()
    indices, losses = ran(trainer)
    first, again = slice(5 * accumulation, 25 * accumulation), slice(25 * accumulation, None)
    assert len(indices) == 45 * accumulation
    assert indices[first] == indices[again]
    assert losses[first] == losses[again]


@pytest.mark.parametrize("kind", ["set_mix", "rollback"])
def test_a_mix_is_refused_with_the_reason_and_changes_nothing(
    tmp_path: Path, engine: Engine, kind: str
) -> None:
    with write(engine) as session:
        make_mix(session, "mix", old=1.0)
    mix: dict[str, object] = {"name": "mix"}
    asked = mix if kind == "set_mix" else {"checkpoint": "main-2", "set_mix": mix}
    trainer = own_trainer(tmp_path / "net")
    with scripted(Script(asking(engine, {4: [(kind, asked)]}))):
        trainer.train()
    [command] = commands(engine)
    assert command.state == "rejected"
    assert "its own dataset" in (command.error or "")
    assert the_run(engine).branch == "main"
    untouched = own_trainer(tmp_path / "untouched")
    untouched.train()
    assert ran(trainer) == ran(untouched)


def test_it_evaluates_itself_on_its_own_dataset(tmp_path: Path, engine: Engine) -> None:
    trainer = own_trainer(tmp_path, transformers.Trainer, label_names=["index"])
    with scripted(Script(asking(engine, {2: [("evaluate", {"suite": "own"})]}))):
        trainer.train()
    [command] = commands(engine)
    loss = json.loads(command.after_json or "")["metrics"]["eval_loss"]
    assert command.state == "applied"
    assert metric(engine, "eval:loss") == {2: loss}


def test_pause_and_stop_and_a_resume_that_goes_on(tmp_path: Path, engine: Engine) -> None:
    trainer = own_trainer(tmp_path / "net")
    with scripted(Script(asking(engine, {4: [("pause", {}), ("resume", {}), ("stop", {})]}))):
        trainer.train()
    assert trainer.state.global_step == 4
    second = own_trainer(tmp_path / "net")
    second.train(resume_from_checkpoint=True)
    whole = own_trainer(tmp_path / "whole")
    whole.train()
    assert ran(trainer)[0] + ran(second)[0] == ran(whole)[0]
    assert ran(trainer)[1] + ran(second)[1] == ran(whole)[1]


def test_a_resume_goes_on_on_the_branch_where_the_run_was(tmp_path: Path, engine: Engine) -> None:
    back = {"checkpoint": "main-2", "branch": "second", "hold_data": True}
    trainer = own_trainer(tmp_path / "net")
    with scripted(Script(asking(engine, {6: [("rollback", back)], 8: [("stop", {})]}))):
        trainer.train()
    assert (the_run(engine).branch, trainer.state.global_step) == ("second", 4)
    second = own_trainer(tmp_path / "net")
    second.train(resume_from_checkpoint=True)
    whole = own_trainer(tmp_path / "whole")
    whole.train()
    assert ran(second)[0] == ran(whole)[0][4:]
    assert ran(second)[1] == ran(whole)[1][4:]
    with read(engine) as session:
        branches = session.scalars(select(Checkpoint.branch).where(Checkpoint.step == 10)).all()
    assert sorted(branches) == ["main", "second"]  # of the whole one, and of this


def test_training_anew_leaves_the_run_that_is_there(tmp_path: Path, engine: Engine) -> None:
    for _ in range(2):
        own_trainer(tmp_path / "net", max_steps=2).train()
    with read(engine) as session:
        assert sorted(session.scalars(select(Run.name))) == ["net", "net-2"]


def test_a_run_that_has_finished_goes_on_only_for_more_steps(tmp_path: Path) -> None:
    own_trainer(tmp_path, max_steps=2).train()
    with pytest.raises(RunFinished, match="ask for more"):
        own_trainer(tmp_path, max_steps=2).train(resume_from_checkpoint=True)
    longer = own_trainer(tmp_path, max_steps=5)
    longer.train(resume_from_checkpoint=True)
    assert len(ran(longer)[0]) == 3


def test_the_newest_checkpoint_may_be_named_by_its_folder_and_no_other(
    tmp_path: Path, engine: Engine, settings: Settings
) -> None:
    own_trainer(tmp_path, max_steps=4).train()
    with read(engine) as session:
        paths = {row.step: row.path for row in session.scalars(select(Checkpoint))}
    with pytest.raises(ValueError, match="is not the newest"):
        own_trainer(tmp_path).train(resume_from_checkpoint=str(settings.runs_path / paths[2]))
    longer = own_trainer(tmp_path, max_steps=5)
    longer.train(resume_from_checkpoint=str(settings.runs_path / paths[4]))
    assert len(ran(longer)[0]) == 1


def test_there_is_nothing_to_resume_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run"):
        own_trainer(tmp_path).train(resume_from_checkpoint=True)


def test_save_strategy_makes_verified_checkpoints_and_the_limit_holds(
    tmp_path: Path, engine: Engine
) -> None:
    own_trainer(tmp_path, save_steps=2, save_total_limit=2).train()
    with read(engine) as session:
        rows = session.scalars(select(Checkpoint).where(Checkpoint.removed_at.is_(None)))
        steps = sorted(row.step for row in rows)
    assert steps[0] == 0
    assert steps[-2:] == [8, 10]
    assert len(steps) <= 4


def test_what_can_not_be_taken_up_again_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="load_best_model_at_end"):
        own_trainer(tmp_path, load_best_model_at_end=True, eval_strategy="steps", eval_steps=2)
    trainer = own_trainer(tmp_path)
    trainer.train_dataset = endless()
    with pytest.raises(UnusableDataset, match="map-style"):
        trainer.train()


def endless() -> "transformers.trainer_pt_utils.IterableDatasetShard":
    class Endless(own.torch.utils.data.IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Iterator[int]:
            return iter(range(10))

    return Endless()


def start(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    usual = {name: value for name, value in os.environ.items() if name != "STOVETOP_DATA"}
    return subprocess.Popen(
        [sys.executable, own.__file__, str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=usual | {"PYTHONPATH": str(Path.cwd()), "STOVETOP_PORT": "0"} | environment,
    )


def test_after_kill_9_it_goes_on_with_the_same_samples(tmp_path: Path, settings: Settings) -> None:
    data = {"STOVETOP_DATA": str(settings.data)}
    with start(tmp_path / "whole", "20", **data) as script:
        whole = script.communicate()[0].splitlines()
    with start(tmp_path / "killed", "20", **data) as script:
        assert script.stdout is not None
        before = [script.stdout.readline().strip() for _ in range(31)]  # amid the 11th step
        script.send_signal(signal.SIGKILL)
        script.communicate()
    with start(tmp_path / "killed", "20", "resume", **data) as script:
        again = script.communicate()[0].splitlines()
    assert len(whole) == 60
    assert before == whole[:31]
    assert 0 < len(again) < 60
    assert again == whole[-len(again) :]


def test_without_a_server_it_brings_its_own_and_ends_with_a_client_connected(
    tmp_path: Path,
) -> None:
    with start(tmp_path / "net", "100000") as script:
        url = stopped_by_a_client(script)
    with pytest.raises(httpx.TransportError):
        httpx.get(url + "/livez", timeout=5)
    engine = open_engine(f"sqlite:///{tmp_path / 'net' / 'stovetop' / 'stovetop.db'}")
    with read(engine) as session:
        assert session.scalars(select(Run.state)).one() == "stopped"
    engine.dispose()


def stopped_by_a_client(script: "subprocess.Popen[str]") -> str:
    """The address; the client is still connected when the script has ended."""
    address = said_address(script)
    words = dict(word.split("=", 1) for word in address.split() if word.startswith("STOVETOP_"))
    headers = {"Authorization": f"Bearer {words['STOVETOP_KEY']}"}
    with httpx.Client(base_url=words["STOVETOP_URL"], headers=headers, timeout=20) as client:
        assert client.get("/v1/runs/net").json()["state"] in ("starting", "running")
        paused = client.post("/v1/runs/net/commands", json={"kind": "pause", "args": {}})
        assert paused.status_code == 201
        client.post("/v1/runs/net/commands", json={"kind": "stop", "args": {}})
        wait_until(lambda: script.poll() is not None)
        assert script.returncode == 0
    return words["STOVETOP_URL"]


def said_address(script: "subprocess.Popen[str]") -> str:
    assert script.stderr is not None
    return next(line for line in script.stderr if line.startswith("Stovetop: "))


def test_its_server_dies_with_it(tmp_path: Path) -> None:
    with start(tmp_path / "net", "100000") as script:
        url = said_address(script).split("STOVETOP_URL=")[1].split()[0]
        assert answers(url)
        script.kill()
        script.communicate()
    wait_until(lambda: not answers(url))


def test_its_server_is_started_again_when_it_dies(tmp_path: Path) -> None:
    with start(tmp_path / "net", "100000") as script:
        said_address(script)
        [server] = [pid for pid in children(script.pid) if "control_api" in command_line(pid)]
        os.kill(server, signal.SIGKILL)
        assert answers(said_address(script).split("STOVETOP_URL=")[1].split()[0])
        script.kill()
        script.communicate()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # torch asks small programs about the machine
        return ""


def answers(url: str) -> bool:
    try:
        return httpx.get(url + "/livez", timeout=1).is_success
    except httpx.TransportError:
        return False
