"""A real GPT-2 in real runs on documents: steered, rolled back, judged, loaded elsewhere."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import Engine, Select, select
from torch import nn
from transformers import AutoModelForCausalLM

from ingest.database import read
from ingest.forgetting.forget import Forgetting
from ingest.forgetting.tombstones import Identity
from ingest.log import open_log
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.tables import Sample, SessionRow
from tests.trainer.asking import Asked, asking, commands, metric
from tests.trainer.causal_lm.conftest import Hold, prose
from tests.trainer.tiny import Seen, Witness
from trainer.causal_lm.family import CausalLMFamily
from trainer.causal_lm.model import load_model
from trainer.evaluate import EvaluationWorker
from trainer.loop.resetting import reset_modules
from trainer.tables import Checkpoint, Evaluation, Run

Training = Callable[..., str]
SAVE: Asked = ("save", {"name": "good"})
HOLD: Asked = ("rollback", {"checkpoint": "good", "branch": "again", "hold_data": True})
SAVED_AT, NUM_REPEATED = 3, 20
TIP = SAVED_AT + NUM_REPEATED


def seen(steps: list[Seen]) -> list[tuple[float, list[int], float]]:
    return [(step.lr, step.ids, step.loss) for step in steps]


def sources(engine: Engine, steps: list[Seen]) -> set[str]:
    """Where the samples of these steps came from."""
    ids = {number for step in steps for number in step.ids}
    with read(engine) as session:
        return set(session.scalars(select(Sample.source).where(Sample.number.in_(ids))))


def checkpoint_path(engine: Engine, settings: Settings, name: str) -> Path:
    with read(engine) as session:
        query = select(Checkpoint.path).where(Checkpoint.name == name)
        return settings.runs_path / session.scalars(query).one()


def test_after_a_rollback_20_steps_repeat_bit_for_bit_with_dropout_on(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {SAVED_AT: [SAVE], TIP: [HOLD]})
    assert training(TIP) == "finished"
    first, again = witness.steps[SAVED_AT:TIP], witness.steps[TIP:]
    assert len(again) == NUM_REPEATED
    assert seen(again) == seen(first)
    assert len({step.loss for step in first}) == NUM_REPEATED


def test_a_rate_and_a_mix_hold_from_the_very_next_step(
    training: Training, witness: Witness, engine: Engine
) -> None:
    script: dict[int, list[Asked]] = {
        2: [("set_lr", {"value": 0.0005})],
        4: [("set_mix", {"name": "code"})],
    }
    witness.during = asking(engine, script)
    training(7)
    assert [command.state for command in commands(engine)] == ["applied"] * 2
    assert [step.lr for step in witness.steps] == [0.001] * 2 + [0.0005] * 5
    assert sources(engine, witness.steps[:4]) == {"prose"}
    assert sources(engine, witness.steps[4:]) == {"code"}


def test_a_run_that_stopped_goes_on_as_if_it_had_not(
    training: Training, witness: Witness, engine: Engine
) -> None:
    witness.during = asking(engine, {4: [("stop", {})]})
    assert training(8) == "stopped"
    assert training(8) == "finished"
    whole = metric(engine, "loss")
    assert list(whole) == list(range(1, 9))
    assert list(whole.values()) == [step.loss for step in witness.steps]


def test_a_new_model_starts_from_chance_and_learns(
    training: Training, witness: Witness, engine: Engine
) -> None:
    training(60, seed=3, lr=0.003)
    losses = [step.loss for step in witness.steps]
    assert losses[0] == pytest.approx(np.log(257), rel=0.05)
    assert losses[-1] < 0.6 * losses[0]
    with read(engine) as session:
        assert session.scalars(select(Run.recipe)).one() == "causal_lm"


def test_the_runs_seed_decides_what_a_new_model_starts_from(
    training: Training, engine: Engine, settings: Settings
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        training(1, name=name, seed=seed)
    with read(engine) as session:
        paths = session.scalars(select(Checkpoint.path).where(Checkpoint.step == 0)).all()
    starts = {(settings.runs_path / path / "model.safetensors").read_bytes() for path in paths}
    assert (len(paths), len(starts)) == (3, 2)


def test_a_checkpoint_loads_with_plain_transformers_and_as_a_base(
    training: Training, engine: Engine, settings: Settings
) -> None:
    training(2)
    path = checkpoint_path(engine, settings, "main-2")
    model, report = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not any(report[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.tensor([list(b"Once upon a time")])
    again = CausalLMFamily(path).load_model().eval()
    assert torch.equal(model(ids).logits, again(ids).logits)


def test_a_run_is_judged_on_documents_that_it_never_draws(
    training: Training, witness: Witness, engine: Engine, settings: Settings, hold: Hold
) -> None:
    hold([prose(n) for n in range(90, 96)], source="prose", split="eval")
    witness.during = asking(engine, {30: [("evaluate", {"suite": "held_out"})]})
    training(31, lr=0.003)
    assert EvaluationWorker(engine, settings).evaluate_next()
    with read(engine) as session:
        result = json.loads(session.scalars(select(Evaluation.result_json)).one() or "")
        held_out = set(session.scalars(select(Sample.number).where(Sample.split == "eval")))
    assert result["num_documents"] == len(held_out) == 6
    assert not held_out & {number for step in witness.steps for number in step.ids}
    assert metric(engine, "eval:held_out:loss") == {30: result["loss"]}
    low, high = result["interval"]
    assert low < result["loss"] < high
    assert result["loss"] < 4.5


@pytest.mark.usefixtures("place")
def test_the_trainers_process_takes_the_recipe_and_keeps_it(
    settings: Settings, engine: Engine
) -> None:
    environment = os.environ | {"STOVETOP_DATA": str(settings.data), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "trainer.run", "--name", "n", "--recipe", "causal_lm"]
    options = ["--mix", "prose", "--max-steps", "2"]
    for more in (options, []):  # the second time the run has finished, and its recipe is known
        done = subprocess.run(
            [*line, *more], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    with read(engine) as session:
        run = session.scalars(select(Run)).one()
    assert (run.recipe, run.state, run.step) == ("causal_lm", "finished", 2)
    assert (run.representation, run.environment) == ("document", "text/1")


def test_the_same_samples_give_the_same_batch(
    engine: Engine, settings: Settings, hold: Hold
) -> None:
    hold([prose(n) for n in range(8)])
    numbers = np.array([5, 2, 7, 1])
    family = CausalLMFamily()
    batches = []
    for _ in range(2):
        reader = family.open_reader(engine, open_store(settings))
        batches.append(family.collate(reader.read(numbers)))
        reader.close()
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])


def test_a_modules_reset_is_gpt_2s_own() -> None:
    torch.manual_seed(1)
    model = load_model(None)
    model.requires_grad_(True)
    parts = dict(model.named_modules())
    attention = parts["transformer.h.0.attn.c_attn"]
    embedding = parts["transformer.wte"]
    with torch.no_grad():
        for module in (attention, embedding):
            for parameter in module.parameters():
                parameter.fill_(7.0)
    optimizer = torch.optim.AdamW(model.parameters())
    names = {"transformer.h.0.attn": parts["transformer.h.0.attn"], "transformer.wte": embedding}
    done = reset_modules(names, optimizer, seed=4)
    assert "transformer.h.0.attn.c_attn" in done
    assert std(attention) == pytest.approx(0.02, rel=0.1)
    assert std(embedding) == pytest.approx(0.02, rel=0.1)


def std(module: nn.Module) -> float:
    return module.get_parameter("weight").std().item()


def test_a_run_goes_on_without_what_is_forgotten_and_so_does_its_rollback(
    training: Training, witness: Witness, engine: Engine, settings: Settings
) -> None:
    """The steps that the rollback was to repeat had drawn it."""
    with read(engine) as session:
        [visit] = session.scalars(select(SessionRow).where(SessionRow.source == "prose").limit(1))
        gone = set(session.scalars(of_visit(visit.session_key)))
    ask = asking(engine, {8: [("rollback", {"checkpoint": "main-0", "hold_data": True})]})

    def during(number: int) -> None:
        if number == 5:
            with open_log(settings) as event_log:
                who = Identity("session", "prose", visit.session_id)
                Forgetting(engine, open_store(settings), event_log).forget(who)
        ask(number)

    witness.during = during
    assert training(30) == "finished"
    assert [command.state for command in commands(engine)] == ["applied"]
    before, after = witness.steps[:5], witness.steps[8:]
    assert gone & {number for step in before for number in step.ids}
    assert not gone & {number for step in after for number in step.ids}
    with read(engine) as session:
        assert not session.scalars(of_visit(visit.session_key)).all()


def of_visit(session_key: str) -> Select[int]:
    return select(Sample.number).where(Sample.session_key == session_key)
