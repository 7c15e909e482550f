"""Case study 1: a person lowers the lr of a run that oscillates.

The script is what a person did who watched two runs (seeds 1 and 2) on the page, with their
reasons; it is replayed through the public API and judged on other seeds.
"""

import threading
from dataclasses import dataclass

from benchmarks.case_studies.lab import Arm, Lab
from control_api.demo.watch import Watched

PEAK_LR = 0.01
TUNED_LR = 0.001  # the best of 0.0003, 0.001 and 0.003 on seeds 1 and 2


@dataclass(frozen=True)
class Change:
    """What the person did at a step, and why."""

    at_step: int
    factor: float
    reason: str


SCRIPT = (
    Change(40, 0.3, "the loss swings by 0.5 from step to step and has stopped falling"),
    Change(90, 0.3, "it falls again, and swings again: once more"),
    Change(220, 0.3, "the last quarter: settle what was learnt"),
)


def person(_lab: Lab, run: Watched, _stop: threading.Event) -> None:
    """Lowers the lr when the script says so."""
    for change in SCRIPT:
        run.wait_for_step(change.at_step)
        run.ask("set_lr", {"factor": change.factor}, change.reason)


def cosine(lab: Lab, run: Watched, _stop: threading.Event) -> None:
    """The static schedule that people choose: half a cosine from the peak to a hundredth."""
    course = {"shape": "cosine", "to": PEAK_LR / 100, "steps": lab.max_steps}
    run.ask("set_lr", {"schedule": course}, "the schedule")


ARMS = (
    Arm("constant", PEAK_LR),
    Arm("cosine", PEAK_LR, cosine),
    Arm("tuned", TUNED_LR),
    Arm("person", PEAK_LR, person),
)
