"""What `benchmarks/trainer.py` puts together: a model, a plain or interactive Trainer, a server."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import torch
import transformers
from torch import Tensor, nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import Dataset
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from ingest.database import open_engine, upgrade, write
from ingest.keys import create_key
from ingest.settings import Settings
from trainer.interactive import make_interactive

BATCH = 16
Answers = Callable[[], list[dict[str, Any]]]


class Numbers(Dataset[dict[str, Tensor]]):
    """10,000 random vectors."""

    def __init__(self, width: int) -> None:
        self._x = torch.randn(10_000, width, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self._x[index]}


class Layers(nn.Module):
    """A plain stack, so that a step is arithmetic and nothing else."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.width = width
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(count)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """How far it is from the identity."""
        return {"loss": (self.layers(x) - x).square().mean()}


@dataclass
class Steps:
    """When the optimizer stepped, by the wall clock, and under which rate.

    `stalls`: seconds from the end of each optimizer step to the next forward pass.
    """

    at: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)  # seconds of the loop's thread between steps
    beside_s: float = 0.0  # CPU of all other threads, from the first step to the last
    _over_at: float | None = None

    def seen(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        """A hook of the optimizer."""
        if not self.at:
            self._beside_before = time.process_time() - time.thread_time()
        self.beside_s = time.process_time() - time.thread_time() - self._beside_before
        self.at.append(time.time())
        self.rates.append(optimizer.param_groups[0]["lr"])

    def over(self, *_hook: object) -> None:
        """A hook of the optimizer, too."""
        self._over_at = time.perf_counter()

    def begun(self, *_hook: object) -> None:
        """A hook of the model."""
        if self._over_at is not None:
            self.stalls.append(time.perf_counter() - self._over_at)
            self._over_at = None

    @property
    def gaps(self) -> list[float]:
        """Seconds from each step to the next."""
        return [after - before for before, after in zip(self.at, self.at[1:], strict=False)]

    def first_after(self, moment: float) -> int:
        """The first step that the optimizer took after a moment."""
        return next(index for index, at in enumerate(self.at) if at > moment)


class Clocked:
    """Times what a Trainer does between two steps: its batches, and what a boundary does."""

    def __init__(self, inner: object, spent: list[float]) -> None:
        self._inner: Any = inner
        self._spent = spent

    def __getattr__(self, name: str) -> object:
        value: object = getattr(self._inner, name)
        return value

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._inner)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self._spent.append(time.perf_counter() - start)
            if batch is None:
                return
            yield batch

    def after_step(self, trainer: transformers.Trainer) -> None:
        """The boundary's; it belongs to the step whose batch came before it."""
        start = time.perf_counter()
        self._inner.after_step(trainer)
        self._spent[-1] += time.perf_counter() - start


class Installation:
    """A server on a fresh folder, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.settings = Settings(data=folder / "data", port=port)
        self.url = f"http://127.0.0.1:{port}"
        upgrade(self.settings)
        engine = open_engine(self.settings.resolved_database_url)
        with write(engine) as session:
            self.key = create_key(session, "operator", "benchmark")
        engine.dispose()
        self._environment = {
            **os.environ,
            "STOVETOP_DATA": str(self.settings.data),
            "STOVETOP_PORT": str(port),
        }

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "control_api.serve"], env=self._environment
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                httpx.get(self.url + "/livez")
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return self
        raise TimeoutError("the server does not answer")

    def __exit__(self, *_exc: object) -> None:
        self._server.terminate()
        self._server.wait()

    @contextmanager
    def watched(self, run: str, num_people: int) -> Iterator[None]:
        """So many people look at the run as the page does."""
        if not num_people:
            yield
            return
        client = self._client("watch", run, str(num_people))
        try:
            yield
        finally:
            client.kill()
            client.communicate()

    @contextmanager
    def asked(self, run: str, commands: Sequence[dict[str, Any]]) -> Iterator[Answers]:
        """Commands for a run that is to come; what came of them, afterwards."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(commands, file)
            file.flush()
            client = self._client("ask", run, file.name)
            said: list[dict[str, Any]] = []
            yield lambda: said
            said += json.loads(client.communicate()[0])

    def checkpoint(self, run: str, name: str) -> Path:
        """The folder of a checkpoint."""
        headers = {"Authorization": f"Bearer {self.key}"}
        listed = httpx.get(f"{self.url}/v1/runs/{run}/checkpoints", headers=headers).json()
        [path] = [item["path"] for item in listed["items"] if item["name"] == name]
        return self.settings.runs_path / path

    def _client(self, what: str, run: str, given: str) -> "subprocess.Popen[str]":
        program = [sys.executable, "-m", "benchmarks.trainer_client"]
        return subprocess.Popen(
            [*program, what, self.url, self.key, run, given], stdout=subprocess.PIPE, text=True
        )


def clocked(base: type[transformers.Trainer], spent: list[float]) -> type[transformers.Trainer]:
    """A Trainer class whose batches and boundaries are timed."""

    class ClockedTrainer(base):  # type: ignore[misc, valid-type]  # made at run time
        def get_train_dataloader(self) -> Clocked:
            return Clocked(super().get_train_dataloader(), spent)

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, Clocked(value, spent) if name == "interaction" else value)

    return ClockedTrainer


def train(model: Layers, num_steps: int, data: Path | None, run: str) -> Steps:
    """Train, plain or registered with an installation's folder; the steps as the optimizer took."""
    base: Any = transformers.Trainer
    if data is not None:
        base = make_interactive(base)
        os.environ["STOVETOP_DATA"] = str(data)
    steps = Steps()
    base = clocked(base, steps.between)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            run_name=run,
            max_steps=num_steps,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = base(model=model, args=args, train_dataset=Numbers(model.width))
        trainer.remove_callback(PrinterCallback)
        hooks = [
            register_optimizer_step_pre_hook(steps.seen),
            register_optimizer_step_post_hook(steps.over),
            model.register_forward_pre_hook(steps.begun),
        ]
        try:
            trainer.train()
        finally:
            for hook in hooks:
                hook.remove()
    return steps
