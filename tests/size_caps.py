"""Fails when a file of ours grows past 400 lines or a function past 60; run by `make check`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def too_long(path: Path) -> Iterator[str]:
    """Yield one line for each thing in a file that is over its cap."""
    source = path.read_text()
    if (lines := source.count("\n")) > MAX_FILE_LINES:
        yield f"{path}: {lines} lines, the cap is {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, the cap is 60"


def main() -> int:
    """Check every tracked Python file except migrations, whose length is the schema's."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], check=True, capture_output=True, text=True
    ).stdout.split()
    findings = [
        finding
        for name in tracked
        if not name.startswith("migrations/versions/") and Path(name).exists()
        for finding in too_long(Path(name))
    ]
    for finding in findings:
        sys.stderr.write(finding + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
