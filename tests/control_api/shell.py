"""The `stovetop` command as tests call it (the fixture `shell`), and what it says."""

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

Shell = Callable[..., Result]


def said(result: Result) -> dict[str, Any]:
    """The one line of JSON that a successful command said."""
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value
