"""The demo's acts, in order: a deployed model learns from what people just did with it.

In: a fresh machine. Out: an `Account` of what was asked, what happened and when, for `verdict`.
Two runs of as many steps start from the shipped base: `live`, which is steered, and `control`,
which stays on the old mix, so that a gain can be told from mere training.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from control_api.demo.machine import Machine
from control_api.demo.use import Crowd, Sent, bundled_logs, post_crowd, ship_logs
from control_api.demo.watch import Asked, Watched
from ingest.simulate import FRESH, OLD_SKILLS

NUM_STEPS = 380
SEED = 7
LR = 1e-3
LOWER_LR = 3e-4
LOWER_AT_STEP = 240
FRESH_SHARE = 0.5
REPEATED_STEPS = 15
SUITES = ("fresh", "old_skills")
SLICES = {
    "everyday": "-task:open_browser,create_folder",
    "fresh": "task:open_browser,create_folder",
}
MIXES = {"everyday": {"everyday": 1.0}, "half": {"everyday": 0.5, "fresh": FRESH_SHARE}}
MAX_BACKLOG = 500  # samples that may still wait for their latents
FILL_S = 300.0

EARLIER = (
    Crowd(name="everyday", weights=OLD_SKILLS, num_visits=24, seed=11, days_ago=6),
    Crowd(name="later", weights=OLD_SKILLS, num_visits=20, seed=12, days_ago=1, is_held_out=True),
)
LATELY = (
    Crowd(name="fresh", weights=FRESH, num_visits=32, seed=21, days_ago=2),
    Crowd(name="unseen", weights=FRESH, num_visits=24, seed=22, days_ago=0.5, is_held_out=True),
)


@dataclass(slots=True)
class Account:
    """What was done and what came of it."""

    sent: Sent = field(default_factory=Sent)
    asked: dict[str, Asked] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


class Story:
    """Tells the acts on `machine`; `say` gets one short line for each thing that happens."""

    def __init__(self, machine: Machine, say: Callable[[str], None]) -> None:
        self._machine = machine
        self._say = say
        self._ingest = {
            source: machine.key("ingest", source) for source in ("deployment", "people")
        }
        self.account = Account()
        self.live = Watched(machine, "live")
        self.control = Watched(machine, "control")

    def tell(self) -> Account:
        """All acts."""
        first_logs, second_logs = bundled_logs()
        self._data_comes_in(first_logs, EARLIER)
        self._curate()
        self._wait_for_samples()
        self._start_runs()
        with self._meanwhile(lambda: self._data_comes_in(second_logs, LATELY)):
            self.live.wait_for_step(20)
        self._wait_for_samples()
        self._steer()
        self._experiment_and_roll_back()
        self._finish()
        return self.account

    def _data_comes_in(self, logs: list[Any], crowds: tuple[Crowd, ...]) -> None:
        shipped = ship_logs(self._machine, self._ingest["deployment"], logs, self.account.sent)
        self._say(f"shipped {len(logs)} logs of the deployed model: {shipped.sent} lines")
        for crowd in crowds:
            num_events = post_crowd(self._machine, self._ingest["people"], crowd, self.account.sent)
            kind = "held-out visits" if crowd.is_held_out else "visits"
            self._say(f"{crowd.num_visits} {kind} ({crowd.name}): {num_events} events stored")

    def _curate(self) -> None:
        for name, words in SLICES.items():
            self._machine.remote.post("/v1/slices", {"name": name, "filter": words})
        for name, shares in MIXES.items():
            self._machine.remote.post("/v1/mixes", {"name": name, "shares": shares})
        self._say("slices: " + ", ".join(f"{name} = {words}" for name, words in SLICES.items()))

    def _wait_for_samples(self) -> None:
        """Wait until what people did by now can be drawn: replayed, indexed and encoded."""
        stages: dict[str, Any] = {}

        def is_through() -> bool:
            stages.update(self._machine.remote.get("/v1/stages"))
            waits: int = stages["log_waiting"] + stages["sessions_to_cut"]
            waits += sum(stages["episodes"].get(state, 0) for state in ("waiting", "leased"))
            latents = max(stages["latents"].values(), default=0)
            return waits == 0 and bool(stages["trainable"] - latents <= MAX_BACKLOG)

        self._machine.wait("what people did, as samples", is_through, FILL_S)
        self._say(f"replayed, indexed and encoded: {stages['trainable']} samples to draw from")

    def _start_runs(self) -> None:
        for run in (self.live, self.control):
            self._machine.train(run.name, mix="everyday", max_steps=NUM_STEPS, lr=LR, seed=SEED)
        for run in (self.live, self.control):
            self._machine.wait(f"run {run.name}", run.exists, FILL_S)
        self._say(f"two runs of {NUM_STEPS} steps from the base: live, and control beside it")

    def _steer(self) -> None:
        self._ask("set_mix", {"name": "half"}, "people open the browser and create folders")
        self.live.wait_for_step(max(LOWER_AT_STEP, self._effective("set_mix") + 40))
        self._ask("set_lr", {"value": LOWER_LR}, "the loss has come down")
        self.live.wait_for_step(self._effective("set_lr") + 5)
        self._ask("pause", {}, "a look at the curves")
        self._ask("resume", {}, "looked")

    def _experiment_and_roll_back(self) -> None:
        self._ask("save", {"name": "before-experiment"}, "a place to come back to")
        self.account.saved = self.account.asked["save"].row["after"]
        here = self._effective("save") - 1
        self.live.wait_for_step(here + REPEATED_STEPS)
        self._ask(
            "rollback",
            {"checkpoint": "before-experiment", "branch": "again", "hold_data": True},
            "the same steps once more, to see that they repeat",
        )
        self.live.wait_for_step(here + REPEATED_STEPS)

    def _finish(self) -> None:
        for run in (self.live, self.control):
            run.wait_for_end()
        self._say("both runs are done; held-out people judge the model before and after")
        wanted = {
            "base": (self.live, self.live.checkpoint(0)),
            "live": (self.live, self.live.checkpoint()),
            "control": (self.control, self.control.checkpoint()),
        }
        asked = {
            (name, suite): (run, run.ask_to_judge(checkpoint, suite))
            for name, (run, checkpoint) in wanted.items()
            for suite in SUITES
        }
        for (name, suite), (run, evaluation_id) in asked.items():
            result = run.judged(evaluation_id)
            self.account.judged.setdefault(name, {})[suite] = result
            self._say(f"{name}, {suite}: {result['balanced_accuracy']:.3f}")

    def _ask(self, kind: str, args: dict[str, Any], reason: str) -> None:
        asked = self.live.ask(kind, args, reason)
        self.account.asked[kind] = asked
        words = " ".join(f"{name}={value}" for name, value in args.items())
        self._say(f"{kind} {words}: holds from step {asked.row['effective_step']} ({reason})")

    def _effective(self, kind: str) -> int:
        step: int = self.account.asked[kind].row["effective_step"]
        return step

    @contextmanager
    def _meanwhile(self, act: Callable[[], None]) -> Iterator[None]:
        failed: list[BaseException] = []

        def guarded() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001  (raised again in the story's own thread)
                failed.append(error)

        thread = threading.Thread(target=guarded, name="use")
        thread.start()
        yield
        thread.join()
        if failed:
            raise failed[0]
