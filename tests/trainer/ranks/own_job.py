"""Somebody's own script as one rank of a job: their Trainer on their dataset, plain, then ours.

Each rank writes what its model was given, as JSON.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ingest.database import open_engine
from ingest.settings import Settings
from tests.trainer.asking import Asked, asking
from tests.trainer.own import Net, Script, Waves, own_trainer

NUM_PLAIN_STEPS = 10  # more than an epoch


def train_own(data: Path, asked: Mapping[int, list[Asked]]) -> None:
    index = int(os.environ["RANK"])
    trainer = own_trainer(
        data / "net",
        transformers.Trainer,
        max_steps=30,
        save_steps=5,
        label_names=["index"],
    )
    judged: list[int] = []

    def see(model: nn.Module, _args: object, inputs: dict[str, Any], _outputs: object) -> None:
        if not model.training:
            judged.extend(inputs["index"].tolist())

    model = trainer.model
    assert isinstance(model, Net)
    model.register_forward_hook(see, with_kwargs=True)
    plain = plain_indices(data)
    engine = open_engine(Settings().resolved_database_url)
    script = Script()
    if index == 0:
        script.during = asking(engine, asked, num_ranks=int(os.environ["WORLD_SIZE"]))
    hook = register_optimizer_step_pre_hook(script.step)
    trainer.train()
    hook.remove()
    engine.dispose()
    seen = {
        "plain": plain,
        "indices": model.indices,
        "losses": model.losses,
        "rates": script.rates,
        "judged": judged,
    }
    (data / f"own-{index}.json").write_text(json.dumps(seen))


def plain_indices(data: Path) -> list[list[int]]:
    """What a Trainer draws that is not interactive."""
    model = Net()
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            str(data / "plain"),
            max_steps=NUM_PLAIN_STEPS,
            per_device_train_batch_size=4,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        ),
        train_dataset=Waves(),
    )
    trainer.train()
    return model.indices
