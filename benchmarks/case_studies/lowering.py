"""Case study 1: a person lowers the lr of a run that oscillates, by a script fixed beforehand.

In: a run under way. Out: commands with their reasons, as somebody gives them who watches the
curves. Script and tuned lr were fixed on SCRIPT_SEEDS; they are judged on JUDGED_SEEDS, where the
script is replayed through the public API and sees nothing.
"""

import threading
from dataclasses import dataclass

from benchmarks.case_studies.lab import Arm, Lab
from control_api.demo.watch import Watched

SCRIPT_SEEDS, JUDGED_SEEDS = (1, 2), (3, 4, 5, 6, 7)
PEAK_LR = 0.003
TUNED_LR = 0.0005  # the best of 0.0003, 0.0005 and 0.001 on the script's seeds


@dataclass(frozen=True)
class Change:
    """What the person did once a step was over, and why."""

    after_step: int
    lr: float
    reason: str


SCRIPT = (
    Change(60, 0.001, "the loss rose by 0.3 at once and swings above its start since: a third"),
    Change(130, 0.0003, "it fell at once, and swings around its new level: a third again"),
)


def person(_lab: Lab, run: Watched, _ended: threading.Event) -> None:
    """Lower the lr when the script says so."""
    for change in SCRIPT:
        run.wait_for_step(change.after_step)
        run.ask("set_lr", {"value": change.lr}, change.reason)


def cosine(lab: Lab, run: Watched, _ended: threading.Event) -> None:
    """The static schedule that people choose: half a cosine from the peak to a hundredth of it."""
    run.wait_for_step(1)
    course = {"shape": "cosine", "to": PEAK_LR / 100, "steps": lab.max_steps - 2}
    run.ask("set_lr", {"schedule": course}, "the static schedule")


ARMS = (
    Arm("constant", PEAK_LR),
    Arm("cosine", PEAK_LR, cosine),
    Arm("tuned constant", TUNED_LR),
    Arm("person", PEAK_LR, person),
)
