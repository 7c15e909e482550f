"""The list of commit points is whole: what writes on an event's way to a step is in it."""

import ast
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from tests.crashes.commit_points import POINTS
from tests.crashes.machine import LINE, TRAIN

PACKAGES = Path(__file__).parents[2]
# Beside the way of an event: a key's use, repairs, what is forgotten (which dies in tests of its
# own), a new run, its author's own, what is judged.
BESIDE = {
    "ingest/forgetting/forget.py",
    "ingest/forgetting/rows.py",
    "ingest/forgetting/shards.py",
    "ingest/integrity/repair.py",
    "ingest/access.py",
    "trainer/checkpoints/retention.py",
    "trainer/commands/inbox.py",
    "trainer/evaluate.py",
    "trainer/run/buffer_supply.py",
    "trainer/run/own.py",
    "trainer/run/rows.py",
}


def writers() -> set[str]:
    """Every module with a writing transaction, as a path."""
    paths = (
        path for package in ("ingest", "trainer") for path in PACKAGES.glob(f"{package}/**/*.py")
    )
    return {path.relative_to(PACKAGES).as_posix() for path in paths if writes(path)}


def writes(path: Path) -> bool:
    return any(
        isinstance(node, ast.withitem)
        and isinstance(node.context_expr, ast.Call)
        and ast.unparse(node.context_expr.func) == "write"
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_every_module_that_writes_on_the_way_has_commit_points() -> None:
    named = {point.target.partition(":")[0].replace(".", "/") + ".py" for point in POINTS}
    assert writers() - BESIDE - named == set()
    assert writers() >= BESIDE


def test_points_have_names_of_their_own_and_programs_that_are_started() -> None:
    assert len({(point.program, point.name) for point in POINTS}) == len(POINTS)
    assert {point.program for point in POINTS} == {*LINE, TRAIN}


@pytest.mark.parametrize("target", sorted({point.target for point in POINTS}))
def test_each_is_still_where_it_says(target: str) -> None:
    module, _, path = target.partition(":")
    assert callable(attrgetter(path)(import_module(module)))
