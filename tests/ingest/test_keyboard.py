"""The keyboard: raw DOM names to the 179 keys, and which of them are held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.keyboard import INDEX_OF, VOCABULARY, HeldKeys, normalise


def test_the_vocabulary_has_179_keys_in_the_models_order() -> None:
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 179
    assert [INDEX_OF[key] for key in ("\t", " ", "a", "enter", "shift", "optionright")] == [
        0, 3, 42, 98, 159, 178,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("N", "n"),
        ("ArrowUp", "up"),
        ("Meta", "command"),
        ("ContextMenu", "apps"),
        ("Control", "ctrl"),
        ("Backspace", "backspace"),
        (" ", " "),
        ("!", "!"),
        ("Dead", None),
        ("F13", None),
        ("\u00e9", None),
        ("", None),
    ],
)
def test_browser_names_become_the_vocabularys(raw: str, name: str | None) -> None:
    assert normalise(raw) == name


@given(st.text())
def test_whatever_a_key_is_called_its_name_is_in_the_vocabulary_or_none(raw: str) -> None:
    assert normalise(raw) in {None, *VOCABULARY}


def test_held_keys_give_their_indices_in_order() -> None:
    keys = HeldKeys()
    for key in ("shift", "a", "shift"):
        keys.press(key)
    assert keys.indices() == (42, 159)
    keys.release("shift")
    assert keys.held == {"a"}


def test_a_key_outside_the_vocabulary_is_never_held() -> None:
    keys = HeldKeys(["dead"])
    keys.press("unidentified")
    keys.release("unidentified")
    assert keys.indices() == ()
