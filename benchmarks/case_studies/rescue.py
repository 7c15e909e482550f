"""Case study 2: an agent that sees the public API alone rescues an lr 100 times too high.

The agent is the rule-based twin: its decisions are a function of what the API shows, and the server
enforces its limits. No figure here comes from a language model.
"""

import threading

from benchmarks.case_studies.lab import Arm, Lab
from control_api.agent.look import SteeredRun
from control_api.agent.rules import decide
from control_api.agent.steer import steer
from control_api.agent.transcript import Transcript
from control_api.demo.watch import Watched
from control_api.remote import Remote

GOOD_LR = 0.001
BAD_LR = 100 * GOOD_LR


def agent(lab: Lab, run: Watched, stop: threading.Event) -> None:
    """Steers until the run ends."""
    run.wait_for_step(1)
    remote = Remote(lab.machine.url, lab.machine.key("operator", f"agent-{run.name}"))
    steer(SteeredRun(remote, run.name), decide, Transcript(), tell=_quietly, stop=stop)


def _quietly(_text: str) -> None:
    """Its commands are in the log, with their reasons."""


ARMS = (
    Arm("nobody", BAD_LR),
    Arm("agent", BAD_LR, agent),
    Arm("good", GOOD_LR),
)
