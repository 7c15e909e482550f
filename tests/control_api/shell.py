"""The `stovetop` command against the real app on loopback; name this in `pytest_plugins`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from control_api.cli.app import app as stovetop
from ingest.keys import Role
from ingest.settings import Settings
from tests.serving import serving


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    """The real app on loopback."""
    with serving(app) as address:
        yield address


@pytest.fixture
def key(make_key: Callable[[Role], str]) -> str:
    """A key for everything."""
    return make_key("admin")


Shell = Callable[..., Result]


@pytest.fixture
def shell(
    url: str, key: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """Runs `stovetop` with the server and the folder in its environment."""
    monkeypatch.setenv("STOVETOP_URL", url)
    monkeypatch.setenv("STOVETOP_KEY", key)
    monkeypatch.setenv("STOVETOP_DATA", str(settings.data))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(stovetop, list(arguments))

    return run


def said(result: Result) -> dict[str, Any]:
    """The one line of JSON that a successful command said."""
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    value: dict[str, Any] = json.loads(line)
    return value
