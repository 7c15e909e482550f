"""A policy's answers to the signals that are on, as commands in the run's queue.

In: the signals that are on after a run's last recorded step, in the transaction that records it.
Out: at most one command, `pending` like anybody's, its actor `policy:<rule>`, its reason the
signal's message. Guaranteed: how often a rule has answered, and when last, is read from the command
log, so a restart forgets nothing; a signal that stays on is answered again after the cooldown; two
answers are never under way at once. Nothing here waits: what was asked is settled by the run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from trainer.commands import queue as command_queue
from trainer.commands.queue import CommandRefused
from trainer.health.policy import Policy, Rule
from trainer.health.reading import RECENT_READINGS
from trainer.health.rows import line_of, on_line
from trainer.health.signals import Since
from trainer.tables import UNSETTLED, Checkpoint, Command, HealthSignal, Run, Step

log = structlog.get_logger()

# A signal over the last 8 readings may have begun that long before it was named.
ONSET_STEPS = 2 * RECENT_READINGS


@dataclass(frozen=True)
class _Now:
    """The end of a run's line."""

    session: Session
    run: Run
    branch: str
    step: int

    @property
    def line(self) -> list[tuple[str, int]]:
        return list(line_of(self.session, self.run.run_id, self.branch, self.step + 1))


class Answers:
    """Gives a policy's answers; it remembers only what it has complained of."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._refused: set[str] = set()

    def give(
        self, session: Session, run_id: str, branch: str, step: int, on: Mapping[str, Since]
    ) -> None:
        """Ask for what the first rule that may answer says, if any may.

        Nothing is asked of a run that is paused, has left the branch, or does again what a dead
        process had recorded.
        """
        if not any(name in on for rule in self._policy.rule for name in rule.on):
            return
        run = session.get_one(Run, run_id, populate_existing=True)
        now = _Now(session, run, branch, step)
        if (run.state, run.branch) != ("running", branch) or _is_rerun(now) or _is_answering(now):
            return
        held: set[str] = set()
        for rule in self._policy.rule:
            standing = _standing(now, rule)
            names = [name for name in rule.on if name in on and name not in held]
            if names and standing == "ready":
                self._ask(now, rule, names[0], on[names[0]])
                return
            if standing == "cooling":
                held |= set(rule.on)

    def _ask(self, now: _Now, rule: Rule, name: str, since: Since) -> None:
        signal = _started(now, name)
        checkpoint = _checkpoint_before(now, since.step)
        try:
            command = command_queue.submit(
                now.session,
                now.run.run_id,
                rule.answer(checkpoint, now.run.lr),
                actor=rule.actor,
                reason=f"{name}: {signal.message}",
            )
        except (CommandRefused, ValidationError) as error:
            if rule.name not in self._refused:
                log.warning("policy_refused", rule=rule.name, signal=name, reason=str(error))
            self._refused.add(rule.name)
            return
        signal.command_id = command.command_id
        log.info("policy_answered", rule=rule.name, signal=name, command_id=command.command_id)


def _is_rerun(now: _Now) -> bool:
    """Whether the branch has steps recorded that come after this one."""
    later = select(Step.step).where(
        Step.run_id == now.run.run_id, Step.branch == now.branch, Step.step > now.step
    )
    return now.session.scalar(later.limit(1)) is not None


def _is_answering(now: _Now) -> bool:
    """Whether a policy's command is under way."""
    under_way = select(Command.command_id).where(
        Command.run_id == now.run.run_id,
        Command.state.in_(UNSETTLED),
        Command.actor.startswith("policy:"),
    )
    return now.session.scalar(under_way.limit(1)) is not None


def _standing(now: _Now, rule: Rule) -> Literal["ready", "cooling", "exhausted"]:
    """Whether a rule may answer, by the commands that it has given."""
    given = select(func.count(), func.max(Command.settled_at)).where(
        Command.run_id == now.run.run_id, Command.actor == rule.actor
    )
    count, settled_at = now.session.execute(given).one()
    if settled_at is not None and not _have_passed(now, rule.cooldown_steps, settled_at):
        return "cooling"
    return "ready" if count < rule.at_most else "exhausted"


def _have_passed(now: _Now, num_steps: int, since: float) -> bool:
    """Whether the line's last so many steps all began after a moment."""
    first = now.step - num_steps + 1
    of_line = on_line(now.line, Step.branch, Step.step)
    began = select(Step.started_at).where(
        Step.run_id == now.run.run_id, Step.step == first, of_line
    )
    started_at = now.session.scalar(began.limit(1))
    return started_at is not None and started_at >= since


def _started(now: _Now, name: str) -> HealthSignal:
    """The row with which a signal that is on has started."""
    rows = select(HealthSignal).where(
        HealthSignal.run_id == now.run.run_id,
        HealthSignal.name == name,
        HealthSignal.state == "started",
        on_line(now.line, HealthSignal.branch, HealthSignal.step),
    )
    row = now.session.scalars(
        rows.order_by(HealthSignal.step.desc()).execution_options(populate_existing=True)
    ).first()
    assert row is not None
    return row


def _checkpoint_before(now: _Now, step: int) -> str:
    """The newest checkpoint of the line that is older than a signal of this step, by its id.

    Where none is, the oldest.
    """
    rows = now.session.scalars(
        select(Checkpoint)
        .where(
            Checkpoint.run_id == now.run.run_id,
            Checkpoint.removed_at.is_(None),
            on_line(now.line, Checkpoint.branch, Checkpoint.step),
        )
        .order_by(Checkpoint.step.desc(), Checkpoint.created_at.desc())
    ).all()
    return _newest_until(rows, step - ONSET_STEPS)


def _newest_until(newest_first: Iterable[Checkpoint], step: int) -> str:
    checkpoint_id = "none"
    for checkpoint in newest_first:
        checkpoint_id = checkpoint.checkpoint_id
        if checkpoint.step <= step:
            break
    return checkpoint_id
