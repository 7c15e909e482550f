"""What held-out episodes give to judge by."""

from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.actions import Action
from ingest.replay.drawn import DrawnDesktop
from ingest.simulate import FRESH, OLD_SKILLS, simulate_session
from trainer.neuralos.cursor import PointerFinder, pointer_error
from trainer.neuralos.evaluate import SUITES
from trainer.neuralos.held_out import HeldOut, replay

TERMINAL = (67.0, 295.0)


def click(x: float, y: float, *, left: bool = True) -> Action:
    return Action(x, y, left=left, right=False, keys_down=(), keys_up=(), wheel_x=0, wheel_y=0)


@cache
def held_out(seed: int, kind: str) -> HeldOut:
    weights = {"fresh": FRESH, "old_skills": OLD_SKILLS}[kind]
    session = simulate_session(seed, weights, num_tasks=11)
    actions = [Action.from_payload(action.payload) for action in session]
    return replay(actions, width=128, height=96)


def test_a_single_click_is_a_no_change_case_and_the_second_one_a_change() -> None:
    episode = replay([click(*TERMINAL), click(*TERMINAL)], width=128, height=96)
    told = [(case.position, case.kind, case.is_change) for case in episode.cases]
    assert told == [(0, "window_opened:terminal", False), (1, "window_opened:terminal", True)]


def test_the_counterfactual_of_a_change_is_the_screen_before_it() -> None:
    episode = replay([click(*TERMINAL), click(*TERMINAL)], width=128, height=96)
    assert (episode.cases[1].counterfactual == episode.frames[0]).all()


def test_frames_equal_those_of_the_replay_stage() -> None:
    session = [click(*TERMINAL), click(*TERMINAL), click(300, 200, left=False)]
    desktop = DrawnDesktop(128, 96)
    frames = [desktop.step(action).frame for action in session]
    assert (replay(session, width=128, height=96).frames == np.stack(frames)).all()


def test_twenty_visits_hold_a_hundred_cases_of_both_halves_for_each_suite() -> None:
    for suite, kinds in SUITES.items():
        cases = [
            case for seed in range(20) for case in held_out(seed, suite).cases if case.kind in kinds
        ]
        num_changes = sum(case.is_change for case in cases)
        assert min(num_changes, len(cases) - num_changes) >= 100, suite


@given(st.integers(0, 126), st.integers(0, 92))
def test_the_pointer_is_found_where_the_action_put_it(column: int, row: int) -> None:
    episode = replay([click(column * 4, row * 4, left=False)], width=128, height=96)
    finder = PointerFinder(128, 96)
    [is_whole] = finder.shows_whole(episode.actions)
    assert is_whole == (column <= 128 - 7 and row <= 96 - 9)
    assert not is_whole or pointer_error(finder, episode.frames, episode.actions) == 0
