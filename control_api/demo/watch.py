"""What a run does, read back over the API: its steps, its losses, its commands and evaluations."""

import time
from dataclasses import dataclass
from typing import Any

from control_api.demo.checks import StepSeen
from control_api.demo.machine import DemoFailed, Machine

SETTLE_S = 60.0
STEP_S = 600.0
JUDGE_S = 300.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that was applied, and the client's own clock when it was answered."""

    kind: str
    was_received: bool
    answered_at: float
    row: dict[str, Any]


class Watched:
    """One run, as anybody with a key can see it."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._remote = machine.remote
        self.name = name

    def row(self) -> dict[str, Any]:
        """The run's row."""
        return self._remote.get(f"/v1/runs/{self.name}")

    def exists(self) -> bool:
        """Whether the run has begun."""
        return any(run["name"] == self.name for run in self._remote.pages("/v1/runs"))

    def wait_for_step(self, step: int) -> None:
        """Wait until the run has finished a step of its current branch."""
        self._machine.wait(
            f"step {step} of run {self.name}", lambda: self.row()["step"] >= step, STEP_S
        )

    def wait_for_end(self) -> None:
        """Wait until the run has taken all its steps."""
        self._machine.wait(
            f"the end of run {self.name}", lambda: self.row()["state"] == "finished", STEP_S
        )

    def ask(self, kind: str, args: dict[str, Any], reason: str) -> Asked:
        """Send a command; the client's clock is read when the answer has come."""
        answer = self._remote.command(self.name, kind, args, reason)
        answered_at = time.time()
        settled = self._remote.settled(answer["command_id"], SETTLE_S)
        if settled["state"] != "applied":
            raise DemoFailed(f"{kind} is {settled['state']}: {settled['error']}")
        return Asked(
            kind=kind,
            was_received=answer["state"] != "pending",
            answered_at=answered_at,
            row=settled,
        )

    def steps(self) -> list[StepSeen]:
        """Every step so far, on every branch."""
        return [
            StepSeen(
                branch=row["branch"],
                step=row["step"],
                started_at=row["started_at"],
                lr=row["lr"],
                samples=tuple(row["samples"]),
            )
            for row in self._remote.pages(f"/v1/runs/{self.name}/steps")
        ]

    def losses(self, branch: str) -> dict[int, float]:
        """The loss of each step of a branch, exactly as recorded."""
        answer = self._remote.get(
            f"/v1/runs/{self.name}/metrics", name="loss", branch=branch, max_points=10_000
        )
        points = [point for series in answer["series"] for point in series["points"]]
        return {point["step"]: point["last"] for point in points}

    def checkpoint(self, step: int | None = None) -> dict[str, Any]:
        """The run's checkpoint of a step, its newest by default."""
        found = [
            row
            for row in self._remote.pages(f"/v1/runs/{self.name}/checkpoints")
            if step is None or row["step"] == step
        ]
        if not found:
            raise DemoFailed(f"run {self.name} has no checkpoint of step {step}")
        return found[0]

    def ask_to_judge(self, checkpoint: dict[str, Any], suite: str) -> str:
        """Ask for an evaluation of a checkpoint; its id."""
        path = f"/v1/checkpoints/{checkpoint['checkpoint_id']}/evaluations"
        evaluation_id: str = self._remote.post(path, {"suite": suite})["evaluation_id"]
        return evaluation_id

    def judged(self, evaluation_id: str) -> dict[str, Any]:
        """The result of an evaluation, once it is there."""
        evaluation = self._remote.evaluated(evaluation_id, JUDGE_S)
        if evaluation["state"] != "done":
            raise DemoFailed(f"an evaluation is {evaluation['state']}: {evaluation['error']}")
        result: dict[str, Any] = evaluation["result"]
        return result
