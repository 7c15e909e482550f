"""The rule-based twin of a language model: it rescues a run that was started with a rate too high.

In: the observations so far, the newest last. Out: the next action, each command with its reason.
Pure: what it has done is read from the observation, where its own commands stand with what became
of them. A run in trouble goes back to its last good checkpoint, or to the start, with a tenth of
the rate in force, or with less where the run's steps were longer than ten times a healthy one;
again if that does not help. A run that is well is left alone until its loss
stalls: then the rate is lowered to a third; and over its last fifth the rate falls to a tenth (a
cool-down of 10 to 20 % is as good as a whole cosine: Hagele et al. 2024, arXiv:2405.18392). Where
the server's limit for a key is smaller than a factor, the limit is taken.
"""

from collections.abc import Sequence

from control_api.agent.actions import Action, Ask, Done, Wait
from control_api.agent.observation import Asked, Checkpoint, Observation
from control_api.agent.trouble import TOO_LONG_A_STEP, Trouble, find_trouble, has_learnt

RESCUE_FACTOR = 10.0
MOST_RESCUE_FACTOR = 100.0
RAISE_FACTOR = 3.0
ANNEAL_FACTOR = 3.0
ANNEAL_AFTER_STEPS = 256  # as many as the run's signal `plateau` compares
MOST_ANNEALS = 4
COOL_DOWN_FROM = 0.8  # of the run's steps
COOL_DOWN_FACTOR = 10.0
MOST_RESCUES = 8
MOST_REFUSALS = 3
RESCUES_EACH = 2  # from one checkpoint, before the start is taken instead
ONSET_STEPS = 16  # a trouble may have begun so long before it was told
LOOK_EVERY_STEPS = 10

_UNSETTLED = ("proposed", "pending", "received", "applying")
_REFUSED = ("rejected", "failed", "cancelled")


def decide(history: Sequence[Observation]) -> Action:
    """What to do now; `history` has one observation at least."""
    seen = history[-1]
    if seen.has_ended:
        return Done(f"the run is {seen.state} at step {seen.step}, its lr {seen.lr:g}")
    if seen.state != "running" or any(asked.state in _UNSETTLED for asked in seen.asked):
        return Wait(1)
    stopped = _stopped(seen)
    if stopped is not None:
        return Done(stopped)
    after_step = _rate_changed_at(seen)
    trouble = find_trouble(seen, after_step)
    if trouble is not None:
        return _rescue(seen, trouble, after_step)
    return _cool_down(seen) or _anneal(seen, after_step) or Wait(LOOK_EVERY_STEPS)


def _stopped(seen: Observation) -> str | None:
    """Why nothing more can be asked, if so."""
    if seen.allowance.commands_left == 0:
        return "this key's budget of commands is spent"
    if seen.allowance.max_lr_factor == 1:
        return "this key may not change the lr"
    last = seen.asked[:MOST_REFUSALS]
    if len(last) == MOST_REFUSALS and all(asked.state in _REFUSED for asked in last):
        return f"{MOST_REFUSALS} commands were refused, the last one because: {last[0].error}"
    return None


def _rate_changed_at(seen: Observation) -> int:
    """The last step before the rate's last change by us, or before the branch."""
    changed = [
        asked.effective_step - 1
        for asked in seen.asked
        if _changes_rate(asked) and asked.branch == seen.branch and asked.effective_step is not None
    ]
    return max([seen.forked_at, *changed])


def _changes_rate(asked: Asked) -> bool:
    return asked.state == "applied" and asked.kind in ("set_lr", "rollback")


def _rescue(seen: Observation, trouble: Trouble, after_step: int) -> Action:
    if trouble.remedy == "raise":
        factor = _bounded(seen, RAISE_FACTOR)
        return Ask("set_lr", {"value": seen.lr * factor}, f"{trouble.what}; a larger lr")
    rescues = [asked for asked in seen.asked if asked.kind == "rollback"]
    if len(rescues) >= MOST_RESCUES:
        return Done(f"{MOST_RESCUES} rescues did not help: {trouble.what}")
    lr = seen.lr / _bounded(seen, _rescue_factor(seen, trouble, after_step))
    target = _last_good(seen, trouble)
    if target is None:
        return Ask("set_lr", {"value": lr}, f"{trouble.what}; no checkpoint to go back to")
    args = {"checkpoint": target.name, "set_lr": {"value": lr}}
    reason = f"{trouble.what}: back to step {target.step} with lr {lr:.3g} instead of {seen.lr:.3g}"
    return Ask("rollback", args, reason)


def _rescue_factor(seen: Observation, trouble: Trouble, after_step: int) -> float:
    """How far down, by the last step at this rate that was measured before the trouble, if any.

    Later ones say less: beside weights that a divergence has blown up, its steps look short.
    """
    measured = [point for point in seen.update_ratios if point.step > after_step]
    before = [point for point in measured if point.step <= trouble.since] or measured[:1]
    ratio = before[-1].value if before else None
    if ratio is None:
        return RESCUE_FACTOR
    return min(MOST_RESCUE_FACTOR, max(RESCUE_FACTOR, ratio / TOO_LONG_A_STEP))


def _bounded(seen: Observation, factor: float) -> float:
    limit = seen.allowance.max_lr_factor
    return factor if limit is None else min(factor, limit)


def _last_good(seen: Observation, trouble: Trouble) -> Checkpoint | None:
    """The newest checkpoint from before the trouble at which something was learnt, or the start.

    Those of an ancestor lie before the fork: whoever rolled back to it took it for good.
    """
    for checkpoint in seen.checkpoints:
        is_own = checkpoint.branch == seen.branch
        before = [point for point in seen.losses if point.step <= checkpoint.step]
        is_early = checkpoint.step <= trouble.since - ONSET_STEPS or checkpoint.step == 0
        is_good = has_learnt(seen, before) and is_early if is_own else True
        if is_good and _num_rescues(seen, checkpoint) < RESCUES_EACH:
            return checkpoint
    return seen.checkpoints[-1] if seen.checkpoints else None


def _num_rescues(seen: Observation, checkpoint: Checkpoint) -> int:
    return sum(asked.args.get("checkpoint") == checkpoint.name for asked in seen.asked)


def _cool_down(seen: Observation) -> Ask | None:
    """The last part of the run, once."""
    steps = seen.max_steps - seen.step
    if seen.step < COOL_DOWN_FROM * seen.max_steps or steps < 1 or _is_cooling(seen):
        return None
    to = seen.lr / _bounded(seen, COOL_DOWN_FACTOR)
    schedule = {"shape": "cosine", "to": to, "steps": steps}
    reason = f"the last {steps} steps: the lr falls to {to:.3g}"
    return Ask("set_lr", {"schedule": schedule}, reason)


def _is_cooling(seen: Observation) -> bool:
    return any(_changes_rate(asked) and "schedule" in asked.args for asked in _on_branch(seen))


def _on_branch(seen: Observation) -> list[Asked]:
    return [asked for asked in seen.asked if asked.branch == seen.branch]


def _anneal(seen: Observation, after_step: int) -> Ask | None:
    """A smaller rate for a loss that stalls."""
    is_judged = "plateau" in seen.on and seen.step - after_step >= ANNEAL_AFTER_STEPS
    num_changes = sum(asked.kind == "set_lr" for asked in _on_branch(seen))
    if not is_judged or num_changes >= MOST_ANNEALS or _is_cooling(seen):
        return None
    lr = seen.lr / _bounded(seen, ANNEAL_FACTOR)
    reason = f"no progress in {seen.step - after_step} steps at lr {seen.lr:.3g}"
    return Ask("set_lr", {"value": lr}, reason)
