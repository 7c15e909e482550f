"""One rank of somebody's own script: their Trainer on their dataset, plain and then interactive.

`torchrun --nproc-per-node N tests/trainer/ranks/own_job.py DATA SCRIPT`, where SCRIPT is JSON: what
is asked during rank 0's n-th step. Each rank writes what its model was given, as JSON.
"""

import json
import os
import sys
from pathlib import Path

import transformers
from pydantic import TypeAdapter
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ingest.database import open_engine
from ingest.settings import Settings
from tests.trainer.asking import Asked, asking
from tests.trainer.own import Net, Script, Waves, own_trainer

NUM_PLAIN_STEPS = 10  # more than an epoch


def main() -> None:
    data, text = sys.argv[1:]
    index = int(os.environ["RANK"])
    trainer = own_trainer(
        Path(data) / "net",
        transformers.Trainer,
        max_steps=30,
        save_steps=5,
        label_names=["index"],
    )
    plain = transformers.Trainer(
        model=Net(),
        args=transformers.TrainingArguments(
            str(Path(data) / "plain"),
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
    plain.train()
    engine = open_engine(Settings().resolved_database_url)
    script = Script()
    if index == 0:
        script.during = asking(engine, TypeAdapter(dict[int, list[Asked]]).validate_json(text))
    hook = register_optimizer_step_pre_hook(script.step)
    trainer.train()
    hook.remove()
    engine.dispose()
    seen = {
        "plain": plain.model.indices,
        "indices": trainer.model.indices,
        "losses": trainer.model.losses,
        "rates": script.rates,
    }
    (Path(data) / f"own-{index}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
    os._exit(0)  # the interpreter would take torch apart for seconds
