"""A run as an agent reaches it: looks, commands, and waiting for steps, over the public API.

In: a server and a key. Out: observations, and what became of commands. Guaranteed: an outage of up
to OUTAGE_S is waited out; a command that was sent again after one is the same command, by its
Idempotency-Key.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import structlog

from control_api.agent.observation import (
    ENDED,
    Allowance,
    Asked,
    Checkpoint,
    Observation,
    Point,
    Signal,
)
from control_api.remote import Answer, Remote, RemoteError

NUM_POINTS = 32
NUM_RECENT = 32
NUM_SEARCHED = 1_000  # points among which the first one of the run is looked for
NUM_SIGNALS = 8
NUM_ASKED = 12
NUM_CHECKPOINTS = 12
OUTAGE_S = 60.0
TRY_AGAIN_S = 0.5
POLL_S = 0.05
WAIT_S = 30.0
LONGEST_REASON = 500  # that the API takes

log = structlog.get_logger()
T = TypeVar("T")


class SteeredRun:
    """One run, steered with one key."""

    def __init__(self, remote: Remote, run: str) -> None:
        """Raises RemoteError where the server or the run is not there."""
        self._remote = remote
        self._path = f"/v1/runs/{quote(run, safe='')}"
        caller = self._patiently(lambda: remote.get("/v1/instance"))
        self._actor: str = caller["actor"]
        self._limits: Answer = caller["limits"]
        self._run_id: str = self._get("")["run_id"]
        self._started: dict[str, float | None] = {}

    def look(self) -> Observation:
        """The run as it is. Raises RemoteError."""
        run = self._get("")
        line = self._line(run["branch"])
        start, branch = self._start(list(line)[-1]), run["branch"]
        whole = self._curves("loss,update_ratio", branch, max_points=NUM_POINTS)
        recent = self._curves(
            "loss,grad_norm",
            branch,
            max_points=2 * NUM_RECENT,  # so that every step is one
            after_step=run["step"] - NUM_RECENT,
        )
        commands = self._get("/commands", actor=self._actor, limit=NUM_ASKED)
        return Observation(
            state=run["state"],
            branch=branch,
            forked_at=line[branch],
            step=run["step"],
            max_steps=run["max_steps"],
            lr=run["lr"],
            start_loss=start.get("loss"),
            start_grad_norm=start.get("grad_norm"),
            losses=whole.get("loss", ()),
            recent_losses=recent.get("loss", ()),
            recent_grad_norms=recent.get("grad_norm", ()),
            update_ratios=whole.get("update_ratio", ()),
            on=tuple(run["signals"]),
            signals=self._signals(branch),
            checkpoints=self._checkpoints(line),
            asked=tuple(_asked(item) for item in commands["items"]),
            allowance=self._allowance(commands["total"]),
        )

    def ask(self, kind: str, args: Mapping[str, Any], reason: str) -> Answer:
        """Ask something of the run; the command. Raises RemoteError with the API's own words."""
        key = uuid4().hex
        return self._patiently(
            lambda: self._remote.command(
                self._run_id, kind, dict(args), reason[:LONGEST_REASON], key
            )
        )

    def settled(self, command: Answer, timeout_s: float) -> Answer:
        """The command once it is settled, or as it is after `timeout_s`; a proposal at once."""
        if command["state"] == "proposed":
            return command
        return self._patiently(lambda: self._remote.settled(command["command_id"], timeout_s))

    def wait(self, steps: int, stop: threading.Event) -> None:
        """Return after so many steps, or once the run ends, leaves its branch, or stands still.

        It stands still when WAIT_S bring no step.
        """
        began = self._get("")
        newest, deadline = began["step"], time.monotonic() + WAIT_S
        while time.monotonic() < deadline and not stop.wait(POLL_S):
            run = self._get("")
            has_moved = run["branch"] != began["branch"] or run["step"] >= began["step"] + steps
            if has_moved or run["state"] in ENDED:
                return
            if run["step"] != newest:
                newest, deadline = run["step"], time.monotonic() + WAIT_S

    def _get(self, path: str, **query: object) -> Answer:
        return self._patiently(lambda: self._remote.get(self._path + path, **query))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What the server answers, once it does."""
        deadline = time.monotonic() + OUTAGE_S
        while True:
            try:
                return ask()
            except RemoteError as error:
                if error.status not in (None, 503) or time.monotonic() >= deadline:
                    raise
                log.warning("server_away", reason=error.detail)
                time.sleep(TRY_AGAIN_S)

    def _line(self, branch: str) -> dict[str, int]:
        """The branch and its ancestors, each with the step at which it forked off."""
        branches = {item["name"]: item for item in self._pages("/branches")}
        line: dict[str, int] = {}
        name: str | None = branch
        while name is not None:
            line[name] = branches[name]["from_step"]
            name = branches[name]["parent"]
        return line

    def _pages(self, path: str) -> list[Answer]:
        return self._patiently(lambda: list(self._remote.pages(self._path + path)))

    def _start(self, root: str) -> dict[str, float | None]:
        """The first values of the run, or of its first steps where it is long under way."""
        if not self._started:
            curves = self._curves("loss,grad_norm", root, max_points=NUM_SEARCHED)
            self._started = {name: points[0].value for name, points in curves.items()}
        return self._started

    def _curves(
        self, names: str, branch: str, *, max_points: int, after_step: int = -1
    ) -> dict[str, tuple[Point, ...]]:
        """Curves by name; where steps share a point, it is the last of them."""
        answer = self._get(
            "/metrics",
            name=names,
            branch=branch,
            max_points=max_points,
            after_step=max(-1, after_step),
        )
        return {
            series["name"]: tuple(Point(item["step"], item["last"]) for item in series["points"])
            for series in answer["series"]
        }

    def _signals(self, branch: str) -> tuple[Signal, ...]:
        newest_first = self._get("/health", branch=branch, limit=NUM_SIGNALS)["items"]
        return tuple(
            Signal(item["step"], item["name"], item["state"], item["message"])
            for item in reversed(newest_first)
        )

    def _checkpoints(self, line: Mapping[str, int]) -> tuple[Checkpoint, ...]:
        """The newest of the line, and its oldest, which is the start."""
        forks = dict(zip(line, [None, *line.values()], strict=False))  # where a child left it
        of_line = []
        for item in self._pages("/checkpoints"):
            branch = item["branch"]
            if branch in forks and (forks[branch] is None or item["step"] <= forks[branch]):
                of_line.append(Checkpoint(item["name"], branch, item["step"], item["lr"]))
        shown = of_line[:NUM_CHECKPOINTS]
        return tuple(shown + [oldest for oldest in of_line[-1:] if oldest not in shown])

    def _allowance(self, num_asked: int) -> Allowance:
        most = self._limits["max_commands"]
        return Allowance(
            commands_left=None if most is None else max(0, most - num_asked),
            max_lr_factor=self._limits["max_lr_factor"],
            needs_approval=self._limits["needs_approval"],
        )


def _asked(item: Answer) -> Asked:
    return Asked(
        command_id=item["command_id"],
        kind=item["kind"],
        args=item["args"],
        reason=item["reason"],
        state=item["state"],
        branch=item["branch"],
        effective_step=item["effective_step"],
        error=item["error"],
    )
