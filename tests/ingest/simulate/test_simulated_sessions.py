"""Simulated sessions: seeded, like real logs in form and pace, full of the day's tasks."""

import json
import statistics
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.actions import Action
from ingest.events import ActionEvent, parse_event
from ingest.replay.drawn import DrawnDesktop, is_structural
from ingest.simulate import (
    COMPACT,
    FRESH,
    NATURAL,
    OLD_SKILLS,
    TaskWeights,
    mixed,
    simulate_session,
    simulated_users,
    wire_events,
)

LOG_FIELDS = {
    "x", "y", "is_left_click", "is_right_click", "keys_down", "keys_up",
    "wheel_delta_x", "wheel_delta_y", "is_auto_input",
}  # fmt: skip
DAYS = {"old": OLD_SKILLS, "fresh": FRESH, "mixed": mixed(OLD_SKILLS, FRESH, 0.5)}


@cache
def kinds_of(day: str) -> Counter[str]:
    """The counterfactual kinds of 30 compact sessions."""
    kinds: Counter[str] = Counter()
    for seed in range(30):
        desktop = DrawnDesktop(64, 48)
        for simulated in simulate_session(seed, DAYS[day], num_tasks=10):
            action = Action.from_payload(simulated.payload)
            counterfactual = desktop.counterfactual(action)
            kinds.update([counterfactual.kind] if counterfactual else [])
            desktop.step(action)
    return kinds


def count(kinds: Counter[str], prefix: str) -> int:
    return sum(number for kind, number in kinds.items() if kind.startswith(prefix))


def test_a_seed_gives_one_session() -> None:
    sessions = [simulate_session(seed, FRESH, num_tasks=6) for seed in (1, 1, 2)]
    assert sessions[0] == sessions[1] != sessions[2]


def test_lines_have_the_fields_of_real_logs_and_plain_json_values() -> None:
    for simulated in simulate_session(3, DAYS["mixed"], num_tasks=10):
        assert set(simulated.payload) == LOG_FIELDS
        assert json.loads(json.dumps(simulated.payload)) == simulated.payload
        assert 0 <= simulated.payload["x"] <= 511
        assert 0 <= simulated.payload["y"] <= 383


def test_lines_come_about_six_a_second_with_auto_inputs_only_after_two_seconds() -> None:
    actions = [a for seed in range(5) for a in simulate_session(seed, FRESH, num_tasks=8)]
    assert 0.13 < statistics.median(a.delay_s for a in actions) < 0.2
    for before, after in pairwise(actions):
        if after.payload["is_auto_input"] and not before.payload["is_auto_input"]:
            assert after.delay_s > 2.0


def test_what_goes_down_comes_up() -> None:
    held: set[str] = set()
    for simulated in simulate_session(5, FRESH, num_tasks=20):
        held |= set(simulated.payload["keys_down"])
        held -= set(simulated.payload["keys_up"])
    assert held == set()


def test_a_capital_is_typed_with_shift_as_in_the_logs() -> None:
    lines = [
        (simulated.payload["keys_down"], simulated.payload["keys_up"])
        for seed in range(10)
        for simulated in simulate_session(seed, FRESH, num_tasks=10)
    ]
    capital = next(i for i, (down, _) in enumerate(lines) if down and down[0] in "NPDTBOA")
    letter = lines[capital][0]
    assert lines[capital - 1] == (["Shift"], [])
    assert lines[capital + 1 : capital + 3] == [([], letter), ([], ["Shift"])]


@pytest.mark.parametrize("day", DAYS)
def test_a_compact_session_has_a_transition_every_few_lines(day: str) -> None:
    num_lines = sum(len(simulate_session(s, DAYS[day], num_tasks=10)) for s in range(30))
    kinds = kinds_of(day)
    num_transitions = sum(n for kind, n in kinds.items() if is_structural(kind))
    assert 7 < num_lines / num_transitions < 20


def test_a_natural_session_is_slower_than_a_compact_one() -> None:
    compact, natural = (
        sum(len(simulate_session(s, FRESH, num_tasks=8, pace=pace)) for s in range(10))
        for pace in (COMPACT, NATURAL)
    )
    assert natural > 1.5 * compact


def test_old_days_know_no_browser_and_no_folders() -> None:
    kinds = kinds_of("old")
    assert count(kinds, "window_opened") > 100
    assert kinds["window_opened:browser"] == kinds["folder_created"] == kinds["menu_opened"] == 0


def test_fresh_days_are_mostly_browser_and_folders() -> None:
    kinds = kinds_of("fresh")
    fresh = kinds["window_opened:browser"] + kinds["page_loaded"] + kinds["folder_created"]
    old = sum(kinds[f"window_opened:{app}"] for app in ("terminal", "home", "trash"))
    assert fresh > 8 * old


@pytest.mark.parametrize(
    ("day", "transition"),
    [
        ("old", "window_opened"),
        ("old", "window_closed"),
        ("old", "window_focused"),
        ("fresh", "window_opened"),
        ("fresh", "window_closed"),
        ("fresh", "menu_opened"),
        ("fresh", "dialog_opened"),
        ("fresh", "folder_created"),
        ("fresh", "page_loaded"),
    ],
)
def test_each_transition_has_look_alikes_that_change_nothing(day: str, transition: str) -> None:
    kinds = kinds_of(day)
    assert 0.25 < count(kinds, f"none:{transition}") / count(kinds, transition) < 2.5


def test_a_mix_takes_its_share_of_both_days() -> None:
    day = mixed(OLD_SKILLS, FRESH, 0.25)
    assert day.share("create_folder") == pytest.approx(0.25 * FRESH.share("create_folder"))
    assert sum(day.share(task) for task in day.weights) == pytest.approx(1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixed(OLD_SKILLS, FRESH, 1.5)


def test_weights_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        TaskWeights({"open_home": 0.0})
    with pytest.raises(ValueError, match="unknown tasks"):
        TaskWeights({"open_hom": 1.0})  # type: ignore[dict-item]  # what a typing error does


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 25))
def test_whatever_the_seed_no_menu_or_dialog_stays_open(
    seed: int, share: float, num_tasks: int
) -> None:
    desktop = DrawnDesktop(64, 48)
    day = mixed(OLD_SKILLS, FRESH, share)
    changes = [
        change
        for simulated in simulate_session(seed, day, num_tasks=num_tasks)
        for change in desktop.step(Action.from_payload(simulated.payload)).changes
    ]
    ended = Counter(changes)
    assert ended["menu_opened"] == ended["menu_closed"] + ended["dialog_opened"]
    assert ended["dialog_opened"] == ended["folder_created"] + ended["dialog_cancelled"]


def test_pseudonyms_are_stable_and_distinct() -> None:
    assert simulated_users(7, 3) == simulated_users(7, 5)[:3]
    assert len(set(simulated_users(7, 50) + simulated_users(8, 50))) == 100


def test_wire_events_are_numbered_timed_and_pass_the_border() -> None:
    episodes = [simulate_session(seed, FRESH, num_tasks=2) for seed in (1, 2)]
    events = list(wire_events(episodes, session_id="s1", user_id="sim-1", started_at=1000.0))
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert [event["kind"] for event in events if event["kind"] != "action"] == ["reset", "end"]
    assert all(a["timestamp"] < b["timestamp"] for a, b in pairwise(events))
    parsed = [parse_event({**event, "event_id": f"e{event['sequence']}"}) for event in events]
    assert sum(isinstance(event, ActionEvent) for event in parsed) == sum(map(len, episodes))
