"""The apps on the drawn desktop: what takes keys, text and the wheel, and what comes of it."""

import pytest

from ingest.replay.drawn.browser import Browser, page_number
from ingest.replay.drawn.characters import typed
from ingest.replay.drawn.terminal import Terminal
from tests.desktop_user import ADDRESS, BARE, FIREFOX, HOME, TERMINAL, TERMINAL_TITLE, TRASH, User


@pytest.fixture
def user() -> User:
    return User()


def run(terminal: Terminal, line: str) -> Terminal:
    for character in line:
        terminal = terminal.key(character, character).content
    return terminal.key("enter", None).content


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("pwd", "/home/user"),
        ("echo hi there", "hi there"),
        ("ls", "Desktop Documents Music"),
        ("nonsense", "nonsense: not found"),
        ("mkdir", "mkdir: missing name"),
    ],
)
def test_the_terminal_answers(line: str, printed: str) -> None:
    assert run(Terminal(), line).lines == (f"~$ {line}", printed)


def test_cd_changes_the_prompt_and_pwd() -> None:
    terminal = run(run(Terminal(), "cd Desktop"), "pwd")
    assert terminal.prompt == "Desktop$ "
    assert terminal.lines[-1] == "/home/user/Desktop"


def test_clear_empties_the_terminal() -> None:
    assert run(run(Terminal(), "ls"), "clear") == Terminal()


def test_a_long_terminal_scrolls_and_typing_returns_to_the_end() -> None:
    terminal = Terminal()
    for _ in range(5):
        terminal = run(terminal, "pwd")
    scrolled = terminal.wheel(-2).content
    assert scrolled.scroll == 2
    assert scrolled.key("a", "a").content.scroll == 0
    assert terminal.wheel(1).changes == ()


def test_mkdir_in_the_terminal_puts_a_folder_on_the_desktop(user: User) -> None:
    user.double_click(TERMINAL)
    user.type("mkdir work")
    assert user.press("enter").changes == ("command_run", "folder_created")
    assert user.double_click((190.0, 172.0)).changes == ("window_opened:folder",)


def test_keys_go_to_the_focused_window(user: User) -> None:
    user.double_click(HOME)
    user.double_click(TERMINAL)
    assert user.type("d").changes == ("text_typed",)
    user.double_click(HOME)
    assert user.type("d").changes == ("entry_selected",)
    user.click(TERMINAL_TITLE)
    assert user.press("backspace").changes == ("text_typed",)
    assert user.press("backspace").changes == ()


def test_keys_without_a_window_do_nothing(user: User) -> None:
    assert user.type("abc").changes == ()
    assert user.press("enter").changes == ()


def test_a_word_in_the_address_bar_loads_its_page(user: User) -> None:
    user.double_click(FIREFOX)
    assert user.type("a").changes == ()
    assert user.click(ADDRESS).changes == ("address_focused",)
    assert user.type("maps").changes == ("text_typed",)
    assert user.press("enter").changes == ("page_loaded",)
    assert user.press("enter").changes == ()


@pytest.mark.parametrize("address", [(176.0, 67.0), (328.0, 80.0), (272.0, 67.2)])
def test_the_address_bar_is_where_real_people_click_it(
    user: User, address: tuple[float, float]
) -> None:
    user.double_click(FIREFOX)
    assert user.click(address).changes == ("address_focused",)


def test_the_next_address_replaces_the_last() -> None:
    browser = Browser(page="maps", address="maps").address_clicked().content
    assert browser.key("n", "n").content.address == "n"
    assert browser.key("backspace", None).content.address == ""


def test_leaving_the_address_bar_shows_the_pages_address_again(user: User) -> None:
    user.double_click(FIREFOX)
    user.click(ADDRESS)
    user.type("maps")
    assert user.click((300.0, 300.0)).changes == ("address_left",)
    assert user.press("enter").changes == ()


def test_a_pages_looks_depend_on_its_name_alone() -> None:
    assert page_number("Maps ") == page_number("maps") != page_number("news")
    assert page_number(" ") == 0


def test_the_wheel_scrolls_what_is_under_the_pointer(user: User) -> None:
    user.double_click(FIREFOX)
    assert user.wheel((300.0, 200.0), -100).changes == ()
    assert user.wheel((300.0, 200.0), 53.3).changes == ("scrolled",)
    assert user.wheel((60.0, 200.0), 100).changes == ()


def test_a_folder_view_selects_by_arrow_letter_and_click(user: User) -> None:
    user.double_click(TRASH)
    assert user.press("down").changes == ("entry_selected",)
    assert user.type("o").changes == ("entry_selected",)
    assert user.click((300.0, 34.0)).changes == ("entry_selected",)
    assert user.click((300.0, 34.0)).changes == ()
    assert user.wheel((300.0, 60.0), 100).changes == ("scrolled",)


def test_shift_types_capitals_and_shifted_symbols() -> None:
    shift = frozenset({"shift"})
    assert typed("n", shift) == "N"
    assert typed("1", shift) == typed("!", frozenset()) == "!"
    assert typed("c", frozenset({"ctrl"})) is None
    assert typed("enter", frozenset()) is None


def test_a_capital_is_seen(user: User) -> None:
    frames = []
    for name in ("New", "new"):
        user.right_click(BARE)
        user.click_create_folder()
        frames.append(user.type(name).frame)
        user.press("escape")
    assert (frames[0] != frames[1]).any()
