"""A newcomer's script: GPT-2 and the Trainer with Hugging Face's own defaults, made interactive."""

from pathlib import Path

import pytest
import torch
import transformers
from sqlalchemy import Engine, select
from torch import Tensor
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments, get_scheduler
from transformers.trainer_callback import PrinterCallback

from ingest.database import read
from ingest.settings import Settings
from tests.trainer.asking import asking, commands, metric
from tests.trainer.own import Script
from tests.trainer.test_interactive import scripted
from trainer.interactive import OwnTrainer, make_interactive
from trainer.tables import Step

LEARNING_RATE, WARM_UP = 0.01, 4


class Texts(Dataset[dict[str, Tensor]]):
    """Sixty rows of eight tokens."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = (index + torch.arange(8) * (1 + index % 3)) % 32
        return {"input_ids": tokens, "labels": tokens}


@pytest.fixture(autouse=True)
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOVETOP_DATABASE_URL", settings.resolved_database_url)
    monkeypatch.chdir(settings.data.parent)  # where the data folder is by default


def gpt2_trainer(folder: Path, **arguments: object) -> OwnTrainer:
    """Dropout is 0.1, the schedule linear, as they are by default."""
    args = TrainingArguments(
        output_dir=str(folder),
        learning_rate=LEARNING_RATE,
        warmup_steps=WARM_UP,
        per_device_train_batch_size=4,
        logging_steps=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **arguments,
    )
    sizes = GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    transformers.set_seed(1)
    model = GPT2LMHeadModel(sizes)
    trainer = make_interactive(transformers.Trainer)(model, args, train_dataset=Texts())
    trainer.remove_callback(PrinterCallback)
    return trainer


def schedule(max_steps: int) -> list[float]:
    """Hugging Face's rates, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
    linear = get_scheduler("linear", optimizer, WARM_UP, max_steps)
    rates = []
    for _ in range(max_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        linear.step()
    return rates


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_after_a_rollback_samples_losses_and_rates_repeat_bit_for_bit(
    tmp_path: Path, engine: Engine, num_workers: int, accumulation: int
) -> None:
    trainer = gpt2_trainer(
        tmp_path / "net",
        max_steps=25,
        gradient_accumulation_steps=accumulation,
        dataloader_num_workers=num_workers,
    )
    script = {
        3: [("save", {"name": "warm"})],
        25: [("rollback", {"checkpoint": "warm", "branch": "again", "hold_data": True})],
    }
    with scripted(Script(asking(engine, script))) as seen:
        trainer.train()
    assert [command.state for command in commands(engine)] == ["applied", "applied"]
    assert seen.rates == [*schedule(25), *schedule(25)[3:]]
    first, again = samples(engine, "main"), samples(engine, "again")
    assert list(again) == list(range(4, 26))
    assert again == {step: first[step] for step in again}
    first_losses, losses = metric(engine, "loss", "main"), metric(engine, "loss", "again")
    assert losses == {step: first_losses[step] for step in losses}
    logged = {line["step"]: line["loss"] for line in trainer.state.log_history if "loss" in line}
    assert {step: logged[step] for step in losses} == pytest.approx(losses, rel=1e-5)


def samples(engine: Engine, branch: str) -> dict[int, bytes]:
    """What each step drew, by step."""
    query = select(Step.step, Step.samples).where(Step.branch == branch).order_by(Step.step)
    with read(engine) as session:
        return {row.step: row.samples for row in session.execute(query)}
