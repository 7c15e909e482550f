"""Real people's logs on the drawn desktop: every line gives a frame, and their tasks come about."""

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ingest.actions import Action
from ingest.replay.drawn import DrawnDesktop

ROOT = Path(__file__).parents[3]
CLEAN = sorted((ROOT / "control_api" / "demo" / "logs").glob("*.jsonl"))
DIRTY = sorted((ROOT / "tests" / "samples" / "neuralos_logs_dirty").glob("*.jsonl"))


def episodes(log: Path) -> Iterator[list[Action]]:
    """The actions between resets; lines that are no JSON are passed over."""
    actions: list[Action] = []
    for line in log.read_text().splitlines():
        try:
            inputs = json.loads(line)["inputs"]
        except json.JSONDecodeError:
            continue
        if inputs is not None:
            actions.append(Action.from_payload(inputs))
            continue
        yield actions
        actions = []
    yield actions


@cache
def changes_of_clean_logs() -> Counter[str]:
    changes: Counter[str] = Counter()
    for log in CLEAN:
        for actions in episodes(log):
            desktop = DrawnDesktop(64, 48)
            for action in actions:
                changes.update(desktop.step(action).changes)
    return changes


@pytest.mark.parametrize("log", [*CLEAN, *DIRTY], ids=lambda log: log.stem)
def test_every_line_of_a_log_gives_a_frame(log: Path) -> None:
    desktop = DrawnDesktop(64, 48)
    for actions in episodes(log):
        desktop.reset()
        frames = [desktop.step(action).frame for action in actions]
        assert all(frame.shape == (48, 64, 3) for frame in frames)


@pytest.mark.parametrize(
    ("label", "at_least", "at_most"),
    [
        ("window_opened:browser", 18, 30),
        ("window_opened:home", 15, 30),
        ("window_opened:terminal", 12, 30),
        ("menu_opened", 20, 30),
        ("folder_created", 18, 30),
        ("page_loaded", 14, 17),
        ("command_run", 20, 35),
    ],
)
def test_people_get_done_what_they_were_about(label: str, at_least: int, at_most: int) -> None:
    assert at_least <= changes_of_clean_logs()[label] <= at_most
