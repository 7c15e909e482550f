"""Where the case studies are run: one installation, the library's text in its buffer, many runs.

In: arms (an lr to start with, and who steers) and seeds. Out: what became of each run: its losses
along its own line, what held-out documents say of its last checkpoint, every command with its
reason. All runs go on from one base model, which has learnt the text at a good lr before, so what
differs between them is what was done to the lr. Everything goes through the public API.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.case_studies.text import sessions, source_files
from control_api.demo.machine import Machine
from control_api.demo.watch import Watched
from ingest.client import Client
from ingest.simulate.post import post_sessions

NUM_DOCUMENTS, MAX_BYTES = 3_000, 400
SOURCE, SLICE, MIX, SUITE = "stdlib", "library", "text", "held_out"
BASE, BASE_SEED = "base", 0
AT_ONCE = 2  # runs, one a core
PLACED_S = 120.0

Steer = Callable[["Lab", Watched, threading.Event], None]


@dataclass(frozen=True)
class Arm:
    """One way to train: the lr to start with, and who steers."""

    name: str
    lr: float
    steer: Steer | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one run; losses are nats a token, None where one is no number.

    `losses` are those of its line alone; `num_undone` counts the steps that rollbacks took back.
    """

    arm: str
    seed: int
    held_out: float | None
    losses: list[float | None]
    num_undone: int
    commands: list[dict[str, Any]]


class Lab:
    """An installation that holds the text and a base model; use it as a context."""

    def __init__(self, folder: Path, *, base_steps: int, base_lr: float, max_steps: int) -> None:
        self.machine = Machine(folder / "data", port=0)
        self.max_steps = max_steps
        self._base_steps = base_steps
        self._base_lr = base_lr
        self._base: Path | None = None

    def __enter__(self) -> Self:
        self._send_text()
        self._base = self._train_base()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.machine.__exit__(kind, error, trace)

    def judge_base(self) -> dict[str, Any]:
        """What held-out documents say of the base model, and how many they are."""
        return self._judged(Watched(self.machine, BASE))

    def run_all(self, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Outcome]:
        """Every arm under every seed, AT_ONCE at a time, in this order."""
        jobs = [(arm, seed) for seed in seeds for arm in arms]
        with ThreadPoolExecutor(max_workers=AT_ONCE) as workers:
            return list(workers.map(lambda job: self._run(*job), jobs))

    def _send_text(self) -> None:
        made = sessions(source_files(), max_documents=NUM_DOCUMENTS, max_bytes=MAX_BYTES)
        with Client(self.machine.url, self.machine.key("ingest", SOURCE)) as client:
            sent = post_sessions(made, client)
        remote = self.machine.remote
        self.machine.wait(
            "all documents in the buffer",
            lambda: remote.get("/v1/stages")["samples"] >= len(sent),
            PLACED_S,
        )
        remote.post("/v1/slices", {"name": SLICE, "filter": f"source:{SOURCE}"})
        remote.post("/v1/mixes", {"name": MIX, "shares": {SLICE: 1.0}})

    def _train_base(self) -> Path:
        """The folder of the base model's last checkpoint."""
        run = self._begun(BASE, lr=self._base_lr, max_steps=self._base_steps, seed=BASE_SEED)
        run.wait_for_end()
        path: str = run.checkpoint(self._base_steps)["path"]
        return self.machine.settings.runs_path / path

    def _begun(self, name: str, *, lr: float, max_steps: int, seed: int) -> Watched:
        self.machine.train(
            name,
            recipe="causal_lm",
            base=self._base,
            mix=MIX,
            max_steps=max_steps,
            lr=lr,
            seed=seed,
        )
        run = Watched(self.machine, name)
        self.machine.wait(f"run {name}", run.exists, PLACED_S)
        return run

    def _run(self, arm: Arm, seed: int) -> Outcome:
        name = f"{arm.name}-{seed}".replace(" ", "-")
        run = self._begun(name, lr=arm.lr, max_steps=self.max_steps, seed=seed)
        self._steered_to_the_end(run, arm.steer)
        branches = list(self.machine.remote.pages(f"/v1/runs/{run.name}/branches"))
        losses = {row["name"]: run.losses(row["name"]) for row in branches}
        line = line_to(run.row()["branch"], branches, losses)
        return Outcome(
            arm=arm.name,
            seed=seed,
            held_out=self._judged(run)["loss"],
            losses=[_finite(loss) for loss in line],
            num_undone=sum(map(len, losses.values())) - len(line),
            commands=self._commands(run),
        )

    def _steered_to_the_end(self, run: Watched, steer: Steer | None) -> None:
        if steer is None:
            run.wait_for_end()
            return
        ended = threading.Event()
        with ThreadPoolExecutor(max_workers=1) as somebody:
            steering = somebody.submit(steer, self, run, ended)
            try:
                run.wait_for_end()
            finally:
                ended.set()
            steering.result()

    def _judged(self, run: Watched) -> dict[str, Any]:
        return run.judged(run.ask_to_judge(run.checkpoint(run.row()["step"]), SUITE))

    def _commands(self, run: Watched) -> list[dict[str, Any]]:
        asked = self.machine.remote.pages(f"/v1/runs/{run.name}/commands")
        told = ("number", "kind", "args", "reason", "actor", "state", "branch", "effective_step")
        rows = [{name: row[name] for name in told} for row in asked]
        return sorted(rows, key=lambda row: int(row["number"]))


def line_to(
    branch: str, branches: Sequence[Mapping[str, Any]], losses: Mapping[str, Mapping[int, float]]
) -> list[float]:
    """The losses of all steps that led to a branch's last one, in the order of the steps."""
    rows = {row["name"]: row for row in branches}
    line: dict[int, float] = {}
    name: str | None = branch
    until = math.inf
    while name is not None:
        line |= {step: loss for step, loss in losses[name].items() if step <= until}
        name, until = rows[name]["parent"], min(until, rows[name]["from_step"])
    return [line[step] for step in sorted(line)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
