"""The loop of the rule-based twin: look, decide, act, until it is done or told to stop.

In: a run and a pure decision function. Out: why it ended. What it does is told, and goes to the
transcript. A command that the server refuses is no end: the next look may lead to another one,
but MOST_REFUSALS in a row are.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from control_api.agent.actions import Action, Ask, Done, Wait
from control_api.agent.look import SteeredRun
from control_api.agent.observation import Observation
from control_api.agent.transcript import Transcript
from control_api.remote import RemoteError

HISTORY = 64
MOST_REFUSALS = 3
SETTLE_S = 60.0
AFTER_REFUSAL_STEPS = 5

Decide = Callable[[Sequence[Observation]], Action]
Tell = Callable[[str], None]


def steer(
    run: SteeredRun, decide: Decide, transcript: Transcript, *, tell: Tell, stop: threading.Event
) -> str:
    """Steer until the decision is to be done; the summary. Raises RemoteError."""
    history: deque[Observation] = deque(maxlen=HISTORY)
    num_refusals = 0
    while not stop.is_set():
        history.append(run.look())
        match decide(history):
            case Done(summary):
                transcript.write("done", summary=summary)
                return summary
            case Wait(steps):
                run.wait(steps, stop)
            case Ask() as ask:
                refusal = _act(run, ask, history[-1].step, transcript, tell)
                num_refusals = 0 if refusal is None else num_refusals + 1
                if refusal is not None and num_refusals >= MOST_REFUSALS:
                    return f"{num_refusals} commands were refused in a row: {refusal}"
                if refusal is not None:
                    run.wait(AFTER_REFUSAL_STEPS, stop)
    return "told to stop"


def _act(run: SteeredRun, ask: Ask, step: int, transcript: Transcript, tell: Tell) -> str | None:
    """Ask, and wait for the outcome; the server's refusal, if it is one."""
    tell(f"step {step}: {ask.kind} {dict(ask.args)}: {ask.reason}")
    asked = {"kind": ask.kind, "args": dict(ask.args), "reason": ask.reason}
    try:
        command = run.settled(run.ask(ask.kind, ask.args, ask.reason), SETTLE_S)
    except RemoteError as error:
        if error.status is None or error.status >= 500:
            raise
        transcript.write("refused", step=step, **asked, problem=error.detail)
        tell(f"refused: {error.detail}")
        return error.detail
    transcript.write("asked", step=step, **asked, state=command["state"], error=command["error"])
    tell(f"{ask.kind} is {command['state']}: {command['error'] or command['command_id']}")
    return None
