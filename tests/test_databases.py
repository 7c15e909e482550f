"""The choice of tests for PostgreSQL names tests that there are."""

from pathlib import Path

import pytest

from tests.databases import CHOSEN, LONG

TESTS = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_what_is_chosen_is_there_and_would_be_left_out_else(name: str) -> None:
    module, _, test = name.partition("::")
    assert module in LONG
    assert f"def {test}(" in (TESTS / module).read_text()


@pytest.mark.parametrize("module", sorted(LONG))
def test_what_is_long_is_there(module: str) -> None:
    assert (TESTS / module).exists()
