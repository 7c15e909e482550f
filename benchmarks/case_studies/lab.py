"""Where the case studies are run: one installation, the standard library in its buffer, many runs.

In: a run's settings and somebody who steers it. Out: its losses along its own line, what held-out
documents say at the end, and every command with its reason. All of it goes through the public API.
"""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.case_studies.text import sessions, source_files
from control_api.demo.machine import Machine
from control_api.demo.watch import Watched
from ingest.client import Client
from ingest.simulate.post import post_sessions

NUM_DOCUMENTS, MAX_BYTES = 2_000, 400
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
    """What became of one run; losses are nats a token, and those of rolled back steps are left."""

    arm: str
    seed: int
    held_out: float | None  # None: not a number
    steps: list[int] = field(repr=False)
    losses: list[float | None] = field(repr=False)
    commands: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Lab:
    """An installation that holds the text; use it as a context."""

    def __init__(self, folder: Path, max_steps: int) -> None:
        self.max_steps = max_steps
        self.machine = Machine(folder / "data", port=0)

    def __enter__(self) -> Self:
        made = sessions(source_files(), max_documents=NUM_DOCUMENTS, max_bytes=MAX_BYTES)
        with Client(self.machine.url, self.machine.key("ingest", "stdlib")) as client:
            sent = post_sessions(made, client)
        remote = self.machine.remote
        self.machine.wait(
            "all documents in the buffer",
            lambda: remote.get("/v1/stages")["samples"] >= len(sent),
            PLACED_S,
        )
        remote.post("/v1/slices", {"name": "stdlib", "filter": "source:stdlib"})
        remote.post("/v1/mixes", {"name": "text", "shares": {"stdlib": 1.0}})
        return self

    def __exit__(self, *exc: object) -> None:
        self.machine.__exit__(*exc)

    def run_all(self, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Outcome]:
        """Every arm under every seed, AT_ONCE at a time."""
        jobs = [(arm, seed) for seed in seeds for arm in arms]
        with ThreadPoolExecutor(max_workers=AT_ONCE) as workers:
            return list(workers.map(lambda job: self._run(*job), jobs))

    def _run(self, arm: Arm, seed: int) -> Outcome:
        name = f"{arm.name}-{seed}"
        self.machine.train(
            name, recipe="causal_lm", mix="text", max_steps=self.max_steps, lr=arm.lr, seed=seed
        )
        run = Watched(self.machine, name)
        self.machine.wait(f"run {name}", run.exists, PLACED_S)
        stop = threading.Event()
        steering = threading.Thread(target=arm.steer or _nobody, args=(self, run, stop))
        steering.start()
        run.wait_for_end()
        stop.set()
        steering.join()
        return self._outcome(arm, seed, run)

    def _outcome(self, arm: Arm, seed: int, run: Watched) -> Outcome:
        row = run.row()
        judged = run.judged(run.ask_to_judge(run.checkpoint(row["step"]), "held_out"))
        points = self._line(run.name, row["branch"])
        commands = [
            {
                "step": asked["effective_step"],
                "kind": asked["kind"],
                "args": asked["args"],
                "reason": asked["reason"],
                "actor": asked["actor"],
                "state": asked["state"],
            }
            for asked in self.machine.remote.pages(f"/v1/runs/{run.name}/commands")
        ]
        return Outcome(
            arm=arm.name,
            seed=seed,
            held_out=_finite(judged["loss"]),
            steps=[step for step, _ in points],
            losses=[_finite(loss) for _, loss in points],
            commands=sorted(commands, key=lambda asked: asked["step"] or 0),
        )

    def _line(self, name: str, branch: str) -> list[tuple[int, float]]:
        """The losses that led to a branch's tip."""
        branches = self.machine.remote.pages(f"/v1/runs/{name}/branches")
        by_name = {item["name"]: item for item in branches}
        points: list[tuple[int, float]] = []
        until = math.inf
        while True:
            losses = Watched(self.machine, name).losses(branch)
            points += [(step, loss) for step, loss in losses.items() if step <= until]
            parent = by_name[branch]["parent"]
            if parent is None:
                return sorted(points)
            until, branch = by_name[branch]["from_step"], parent


def _nobody(_lab: Lab, _run: Watched, _stop: threading.Event) -> None:
    """Watches, and does nothing."""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
