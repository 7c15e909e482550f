"""Case study 2: an agent that sees the public API alone rescues an lr 100 times too high.

In: a run under way. Out: what the rule-based twin of a language model decides, a function of what
the API shows. Its constants, and the schedule's peak, were fixed on seeds that are not judged. No
figure here comes from a language model.
"""

import threading

from benchmarks.case_studies.lab import Arm, Lab
from benchmarks.case_studies.lowering import TUNED_LR
from control_api.agent.look import SteeredRun
from control_api.agent.rules import decide
from control_api.agent.steer import steer
from control_api.agent.transcript import Transcript
from control_api.demo.watch import Watched
from control_api.remote import Remote

BAD_LR = 100 * TUNED_LR
GOOD_PEAK_LR = 2 * TUNED_LR  # the better one of this and TUNED_LR on the script's seeds


def agent(lab: Lab, run: Watched, ended: threading.Event) -> None:
    """Steer with a key of its own until the run ends."""
    run.wait_for_step(1)
    remote = Remote(lab.machine.url, lab.machine.key("operator", f"agent-{run.name}"))
    steer(SteeredRun(remote, run.name), decide, Transcript(), tell=_quietly, stop=ended)


def static_cosine(lab: Lab, run: Watched, _ended: threading.Event) -> None:
    """A good static schedule: half a cosine from a good peak to a tenth of it."""
    run.wait_for_step(1)
    course = {"shape": "cosine", "to": GOOD_PEAK_LR / 10, "steps": lab.max_steps - 2}
    run.ask("set_lr", {"schedule": course}, "the static schedule")


def _quietly(_text: str) -> None:
    """Its commands are in the log, with their reasons."""


ARMS = (
    Arm("no agent", BAD_LR),
    Arm("agent", BAD_LR, agent),
    Arm("good schedule", GOOD_PEAK_LR, static_cosine),
)
