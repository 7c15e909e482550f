"""The drawn desktop's rules for clicks: icons, windows, the menu and the name dialog."""

import pytest

from ingest.replay.drawn import DrawnDesktop, Layout
from tests.desktop_user import (
    BARE,
    FIREFOX,
    HOME,
    HOME_CLOSE,
    HOME_TITLE,
    TERMINAL,
    TERMINAL_CLOSE,
    TERMINAL_TITLE,
    TRASH,
    User,
)


@pytest.fixture
def user() -> User:
    return User()


@pytest.mark.parametrize(
    ("icon", "app"),
    [(TRASH, "trash"), (HOME, "home"), (TERMINAL, "terminal"), (FIREFOX, "browser")],
)
def test_a_double_click_on_an_icon_opens_its_window(
    user: User, icon: tuple[float, float], app: str
) -> None:
    assert user.double_click(icon).changes == (f"window_opened:{app}",)


def test_a_single_click_only_selects(user: User) -> None:
    assert user.click(HOME).changes == ("icon_selected",)
    assert user.click(BARE).changes == ("selection_cleared",)


def test_two_clicks_five_ticks_apart_are_a_double_click(user: User) -> None:
    user.click(HOME)
    user.wait(4)
    assert user.click(HOME).changes == ("window_opened:home",)


def test_two_clicks_six_ticks_apart_are_not(user: User) -> None:
    user.click(HOME)
    user.wait(5)
    assert user.click(HOME).changes == ()


def test_two_clicks_nine_pixels_apart_are_not(user: User) -> None:
    user.click((HOME[0] - 5, HOME[1]))
    assert user.click((HOME[0] + 4, HOME[1])).changes == ()


def test_a_third_click_does_not_open_again(user: User) -> None:
    user.double_click(HOME)
    assert user.click(HOME).changes == ("icon_selected",)


def test_the_close_button_closes(user: User) -> None:
    user.double_click(TERMINAL)
    assert user.click(TERMINAL_TITLE).changes == ()
    assert user.click(TERMINAL_CLOSE).changes == ("window_closed:terminal",)


def test_opening_what_is_open_brings_it_to_the_front(user: User) -> None:
    user.double_click(HOME)
    user.double_click(TERMINAL)
    assert user.double_click(HOME).changes == ("window_focused:home",)
    assert user.double_click(HOME).changes == ("selection_cleared",)


def test_a_click_on_a_window_brings_it_to_the_front(user: User) -> None:
    user.double_click(HOME)
    user.double_click(FIREFOX)
    assert user.click(HOME_TITLE).changes == ("window_focused:home",)
    assert user.click(HOME_TITLE).changes == ()


def test_a_covered_close_button_does_not_close(user: User) -> None:
    user.double_click(TERMINAL)
    user.double_click(FIREFOX)
    assert user.click(TERMINAL_CLOSE).changes == ()


def test_an_unfocused_window_closes_at_the_first_click(user: User) -> None:
    user.double_click(HOME)
    user.double_click(FIREFOX)
    assert user.click(HOME_CLOSE).changes == ("window_closed:home",)


def test_right_click_create_folder_and_a_name_put_a_folder_that_opens(user: User) -> None:
    assert user.right_click(BARE).changes == ("menu_opened",)
    assert user.click_create_folder().changes == ("dialog_opened",)
    assert user.type("New").changes == ("text_typed",)
    assert user.press("enter").changes == ("folder_created",)
    assert user.double_click((190.0, 172.0)).changes == ("window_opened:folder",)


@pytest.mark.parametrize("offset", [(52, 34), (68, 50), (52, 50), (68, 34), (60, 42)])
def test_create_folder_is_where_real_people_click_it(user: User, offset: tuple[int, int]) -> None:
    user.right_click(BARE)
    assert user.click((BARE[0] + offset[0], BARE[1] + offset[1])).changes == ("dialog_opened",)


def test_a_menu_in_the_corner_moves_onto_the_screen(user: User) -> None:
    user.right_click((500.0, 380.0))
    assert user.click((444.0, 336.0)).changes == ("dialog_opened",)


def test_a_click_elsewhere_or_escape_closes_the_menu(user: User) -> None:
    user.right_click(BARE)
    assert user.click(HOME).changes == ("menu_closed",)
    user.right_click(BARE)
    assert user.press("escape").changes == ("menu_closed",)


def test_the_disabled_item_does_nothing(user: User) -> None:
    user.right_click(BARE)
    assert user.click((BARE[0] + 60, BARE[1] + 66)).changes == ()


def test_the_menu_opens_a_terminal(user: User) -> None:
    user.right_click(BARE)
    assert user.click((BARE[0] + 60, BARE[1] + 18)).changes == ("window_opened:terminal",)


def test_icons_and_windows_have_no_menu(user: User) -> None:
    user.double_click(TERMINAL)
    assert user.right_click(HOME).changes == ()
    assert user.right_click((300.0, 300.0)).changes == ()


def test_enter_on_an_empty_or_used_name_waits(user: User) -> None:
    user.create_folder("work")
    user.right_click(BARE)
    user.click_create_folder()
    assert user.press("enter").changes == ()
    user.type("work")
    assert user.press("enter").changes == ()
    user.press("backspace")
    assert user.press("enter").changes == ("folder_created",)


def test_escape_and_a_click_outside_cancel_the_dialog(user: User) -> None:
    for cancel in (lambda: user.press("escape"), lambda: user.click(TRASH)):
        user.right_click(BARE)
        user.click_create_folder()
        assert cancel().changes == ("dialog_cancelled",)


def test_folders_fill_the_free_cells_until_none_is_left(user: User) -> None:
    created = [user.create_folder(f"f{number}").changes for number in range(20)]
    num_created = created.count(("folder_created",))
    assert created[num_created:] == [()] * (20 - num_created)
    assert num_created >= 8


def test_a_reset_gives_the_first_screen_again(user: User) -> None:
    before = user.move(BARE).frame
    user.create_folder("work")
    user.double_click(HOME)
    user.desktop.reset()
    assert (user.move(BARE).frame == before).all()


def test_the_standard_icons_are_where_the_logs_click_them() -> None:
    assert dict(Layout.standard().icons) == {
        "trash": TRASH,
        "home": HOME,
        "terminal": TERMINAL,
        "browser": FIREFOX,
    }


def test_windows_leave_the_standard_icons_free() -> None:
    user = User(DrawnDesktop())
    for icon in (TRASH, HOME, TERMINAL, FIREFOX):
        user.double_click(icon)
    for icon in (TRASH, HOME, TERMINAL):
        assert user.double_click(icon).changes[0].startswith("window_focused")
    assert user.double_click(FIREFOX).changes == ("window_focused:browser",)
