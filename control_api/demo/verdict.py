"""Which promises held, judged from the API's records, the database and the client's own clock.

In: the story's account. Out: a `Verdict` with one line a promise, the numbers behind it, and the
table before -> after.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, select

from control_api.demo.checks import (
    StepSeen,
    began_after,
    began_between,
    compare_repeat,
    stale_lr_steps,
    worst_share_error,
)
from control_api.demo.story import FRESH_SHARE, LOWER_LR, MIXES, REPEATED_STEPS, Account, Story
from ingest.database import read
from ingest.tables import DeadLetter, EventRow, Sample

MIN_BASE_OLD = 0.90
MIN_FRESH_GAIN = 0.25
MIN_FRESH_GAIN_LOW = 0.10
MAX_OLD_LOSS = 0.05
MIN_FRAMES = 100


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: what it says, whether it held, and the numbers that tell."""

    says: str
    held: bool
    numbers: dict[str, Any]


def judge(story: Story, account: Account, engine: Engine) -> list[Promise]:
    """Every promise of the demo."""
    steps = story.live.steps()
    return [
        _nothing_lost(account, engine),
        _commands_held(account, steps, _fresh_numbers(engine)),
        _rollback_repeats(story, steps),
        *_learned(account.judged),
    ]


def _nothing_lost(account: Account, engine: Engine) -> Promise:
    with read(engine) as session:
        stored = set(session.scalars(select(EventRow.event_id).where(EventRow.source == "people")))
        num_lines = session.scalar(
            select(func.count()).select_from(EventRow).where(EventRow.source == "deployment")
        )
        num_dead = session.scalar(select(func.count()).select_from(DeadLetter)) or 0
        num_actions = session.scalar(
            select(func.count()).select_from(EventRow).where(EventRow.kind == "action")
        )
        num_samples = session.scalar(
            select(func.count(func.distinct(Sample.event_number))).where(
                Sample.retired_revision.is_(None)
            )
        )
    missing = len(account.sent.event_ids - stored) + account.sent.num_lines - (num_lines or 0)
    numbers = {
        "acknowledged": len(account.sent.event_ids) + account.sent.num_lines,
        "missing": missing,
        "dead_letters": num_dead,
        "actions": num_actions,
        "samples": num_samples,
    }
    held = missing == num_dead and num_actions == num_samples
    return Promise("no acknowledged event is missing from buffer or dead letters", held, numbers)


def _fresh_numbers(engine: Engine) -> set[int]:
    fresh = Sample.tasks.contains(" open_browser ") | Sample.tasks.contains(" create_folder ")
    with read(engine) as session:
        return set(session.scalars(select(Sample.number).where(fresh)))


def _commands_held(account: Account, steps: list[StepSeen], fresh: set[int]) -> Promise:
    asked = account.asked
    mixed = began_after(steps, "main", asked["set_mix"].answered_at)
    error, num_draws = worst_share_error(mixed, fresh, FRESH_SHARE)
    slower = began_after(steps, "main", asked["set_lr"].answered_at)
    in_pause = began_between(steps, asked["pause"].answered_at, asked["resume"].row["created_at"])
    numbers = {
        "commands": len(asked),
        "received_at_once": sum(command.was_received for command in asked.values()),
        "stale_lr_steps": stale_lr_steps(slower, LOWER_LR),
        "steps_after_set_lr": len(slower),
        "worst_share_error_in_samples": error,
        "draws_after_set_mix": num_draws,
        "steps_begun_in_pause": in_pause,
    }
    held = (
        bool(slower and mixed)
        and numbers["stale_lr_steps"] == 0
        and error < len(MIXES["half"])
        and in_pause == 0
    )
    return Promise("every received command held from the next step boundary", held, numbers)


def _rollback_repeats(story: Story, steps: list[StepSeen]) -> Promise:
    first = {step.step: step for step in steps if step.branch == "main"}
    again = {step.step: step for step in steps if step.branch == "again"}
    repeat = compare_repeat(first, again, story.live.losses("main"), story.live.losses("again"))
    numbers = {
        "steps_compared": repeat.num_steps,
        "differing_losses": repeat.differing_losses,
        "differing_sample_ids": repeat.differing_samples,
    }
    held = repeat.is_exact and repeat.num_steps >= REPEATED_STEPS - 1
    return Promise("after the rollback, losses and sample ids repeat exactly", held, numbers)


def _learned(judged: dict[str, dict[str, dict[str, Any]]]) -> list[Promise]:
    accuracy = {
        name: {suite: result["balanced_accuracy"] for suite, result in suites.items()}
        for name, suites in judged.items()
    }
    frames = [
        result[half]
        for suites in judged.values()
        for result in suites.values()
        for half in ("num_change", "num_no_change")
    ]
    base, live, control = accuracy["base"], accuracy["live"], accuracy["control"]
    gain = live["fresh"] - base["fresh"]
    low, high = difference_interval(judged["live"]["fresh"], judged["base"]["fresh"])
    gained = gain >= MIN_FRESH_GAIN and low > MIN_FRESH_GAIN_LOW
    old_loss = base["old_skills"] - live["old_skills"]
    return [
        Promise(
            "the base knows the old skills",
            base["old_skills"] >= MIN_BASE_OLD and min(frames) >= MIN_FRAMES,
            {"accuracy": base["old_skills"], "fewest_frames_a_half": min(frames)},
        ),
        Promise(
            "fresh tasks are learned, and by more than without them",
            gained and gain > control["fresh"] - base["fresh"],
            {
                "before": base["fresh"],
                "after": live["fresh"],
                "gain": gain,
                "gain_interval_95": [low, high],
                "control": control["fresh"],
            },
        ),
        Promise(
            "old skills are kept",
            old_loss <= MAX_OLD_LOSS,
            {"before": base["old_skills"], "after": live["old_skills"], "loss": old_loss},
        ),
    ]


def difference_interval(after: dict[str, Any], before: dict[str, Any]) -> tuple[float, float]:
    """95 % interval of a difference of two accuracies from their own intervals.

    Newcombe's method 10 (Statistics in Medicine 17, 1998): the distances to the single intervals'
    ends, squared and summed.
    """
    a, (a_low, a_high) = after["balanced_accuracy"], after["interval"]
    b, (b_low, b_high) = before["balanced_accuracy"], before["interval"]
    down = ((a - a_low) ** 2 + (b_high - b) ** 2) ** 0.5
    up = ((a_high - a) ** 2 + (b - b_low) ** 2) ** 0.5
    return a - b - down, a - b + up
