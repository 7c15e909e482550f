"""Counterfactuals: what had shown if an action had had the other outcome."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.actions import Action
from ingest.replay.drawn import DrawnDesktop, is_structural
from tests.desktop_user import (
    ACTIONS,
    AIMED,
    BARE,
    FIREFOX,
    HOME,
    HOME_TITLE,
    TERMINAL,
    TERMINAL_CLOSE,
    User,
)


def test_a_changes_counterfactual_is_the_screen_had_it_done_nothing() -> None:
    user = User()
    user.click(HOME)
    still = User()
    still.click(HOME)
    counterfactual = user.counterfactual(HOME, left=True)
    assert counterfactual is not None
    assert counterfactual.kind == "window_opened:home"
    assert (counterfactual.frame == still.move(HOME).frame).all()


def test_a_single_clicks_counterfactual_is_the_open_window() -> None:
    opened = User().double_click(HOME).frame
    counterfactual = User().counterfactual(HOME, left=True)
    assert counterfactual is not None
    assert counterfactual.kind == "none:window_opened:home"
    assert (counterfactual.frame == opened).all()


def test_a_single_click_on_an_open_apps_icon_could_have_raised_it() -> None:
    user = User()
    user.double_click(HOME)
    user.double_click(TERMINAL)
    user.wait(6)
    counterfactual = user.counterfactual(HOME, left=True)
    assert counterfactual is not None
    assert counterfactual.kind == "none:window_focused:home"


def test_a_right_click_on_a_window_could_have_opened_the_menu() -> None:
    user = User()
    user.double_click(TERMINAL)
    counterfactual = user.counterfactual((300.0, 300.0), right=True)
    assert counterfactual is not None
    assert counterfactual.kind == "none:menu_opened"


def test_a_click_beside_the_close_button_could_have_closed() -> None:
    user = User()
    user.double_click(TERMINAL)
    beside = (TERMINAL_CLOSE[0] - 24, TERMINAL_CLOSE[1])
    counterfactual = user.counterfactual(beside, left=True)
    assert counterfactual is not None
    assert counterfactual.kind == "none:window_closed:terminal"
    user.click(TERMINAL_CLOSE)
    assert (counterfactual.frame == user.move(beside).frame).all()


def test_a_click_on_the_disabled_item_could_have_opened_the_dialog() -> None:
    user = User()
    user.right_click(BARE)
    counterfactual = user.counterfactual((BARE[0] + 60, BARE[1] + 66), left=True)
    assert counterfactual is not None
    assert counterfactual.kind == "none:dialog_opened"


def test_enter_on_an_empty_name_could_have_created_a_folder() -> None:
    user = User()
    user.right_click(BARE)
    user.click_create_folder()
    counterfactual = user.desktop.counterfactual(Action(*BARE, keys_down=("enter",)))
    assert counterfactual is not None
    assert counterfactual.kind == "none:folder_created"


def test_enter_on_an_empty_address_could_have_loaded_the_start_page() -> None:
    user = User()
    user.double_click(FIREFOX)
    user.click((250.0, 74.0))
    user.type("maps")
    user.press("enter")
    user.click((250.0, 74.0))
    user.press("backspace")
    counterfactual = user.desktop.counterfactual(Action(*BARE, keys_down=("enter",)))
    assert counterfactual is not None
    assert counterfactual.kind == "none:page_loaded"


def test_typing_has_the_unchanged_screen_as_its_counterfactual() -> None:
    user = User()
    user.double_click(TERMINAL)
    counterfactual = user.desktop.counterfactual(Action(*BARE, keys_down=("a",)))
    assert counterfactual is not None
    assert counterfactual.kind == "text_typed"
    assert (counterfactual.frame == user.move(BARE).frame).all()


def test_moves_and_clicks_that_attempt_nothing_have_none() -> None:
    user = User()
    user.double_click(HOME)
    assert user.counterfactual(BARE) is None
    assert user.counterfactual(BARE, left=True) is None
    assert user.counterfactual(HOME_TITLE, left=True) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(AIMED | ACTIONS, max_size=40))
def test_asking_alters_nothing_and_agrees_with_what_then_happens(actions: list[Action]) -> None:
    asked, unasked = DrawnDesktop(64, 48), DrawnDesktop(64, 48)
    for action in actions:
        counterfactual = asked.counterfactual(action)
        step = asked.step(action)
        expected = unasked.step(action)
        assert step.changes == expected.changes
        assert np.array_equal(step.frame, expected.frame)
        if counterfactual is None:
            continue
        assert (counterfactual.frame != step.frame).any()
        is_transition = any(is_structural(change) for change in step.changes)
        assert counterfactual.kind.startswith("none:") <= (not is_transition)
