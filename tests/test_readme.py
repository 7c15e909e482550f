"""What the README points at is there, and its tree is the repository's."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ingest", "trainer", "control_api", "migrations", "benchmarks")
KINDS = ("*.py", "*.html")


def modules() -> set[str]:
    """The modules and pages that a reader would look for, relative to the repository."""
    found = {path for name in FOLDERS for kind in KINDS for path in (ROOT / name).rglob(kind)}
    return {
        str(path.relative_to(ROOT))
        for path in found
        if path.name != "__init__.py" and path.parent.name != "versions"
    }


def in_tree() -> set[str]:
    """The files of the README's tree, each under the folder named before it."""
    tree = (ROOT / "README.md").read_text().partition("## The tree")[2].partition("```\n")[2]
    named: set[str] = set()
    folder = ""
    for line in tree.partition("```")[0].splitlines():
        name = line.split()[0]
        if name.endswith("/"):
            folder = name
        elif line.startswith("  "):
            named.add(folder + name)
    return named


def test_the_tree_names_every_file_and_no_other() -> None:
    assert in_tree() == modules()


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_path_of_the_architecture_is_there() -> None:
    paths = re.findall(r"`((?:ingest|trainer|control_api|tests)/[\w./]+)`", read_architecture())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def read_architecture() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text()
