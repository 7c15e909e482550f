"""The real app over a fresh installation, a client for each role, and the `stovetop` command."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from control_api.app import create_app
from control_api.cli.app import app as stovetop
from ingest.database import write
from ingest.keys import Limits, Role, create_key
from ingest.settings import Settings
from tests.control_api.shell import Shell
from tests.serving import serving

# The app answers to the names of this machine only.
BASE_URL = "http://127.0.0.1"
AsRole = Callable[[Role], TestClient]
Limited = Callable[..., TestClient]


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """The app of the fresh installation."""
    return create_app(settings)


@pytest.fixture
def make_key(engine: Engine) -> Callable[[Role], str]:
    """Makes a key of a role."""

    def make(role: Role) -> str:
        with write(engine) as session:
            return create_key(session, role, f"source-of-{role}")

    return make


@pytest.fixture
def anonymous(app: FastAPI) -> Iterator[TestClient]:
    """A client without a key; the app runs as long as it does."""
    with TestClient(app, base_url=BASE_URL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def as_role(anonymous: TestClient, make_key: Callable[[Role], str]) -> AsRole:
    """Gives a client with a key of a role."""

    def client(role: Role) -> TestClient:
        headers = {"Authorization": f"Bearer {make_key(role)}"}
        return TestClient(anonymous.app, BASE_URL, headers=headers, raise_server_exceptions=False)

    return client


@pytest.fixture
def limited(anonymous: TestClient, engine: Engine) -> Limited:
    """Gives a client with an operator's key of its own that has limits."""

    def client(**limits: Any) -> TestClient:
        with write(engine) as session:
            key = create_key(session, "operator", "agent", Limits(**limits))
        headers = {"Authorization": f"Bearer {key}"}
        return TestClient(anonymous.app, BASE_URL, headers=headers, raise_server_exceptions=False)

    return client


@pytest.fixture
def viewer(as_role: AsRole) -> TestClient:
    """A client that may read."""
    return as_role("viewer")


@pytest.fixture
def operator(as_role: AsRole) -> TestClient:
    """A client that may change things."""
    return as_role("operator")


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    """The real app on loopback."""
    with serving(app) as address:
        yield address


@pytest.fixture
def key(make_key: Callable[[Role], str]) -> str:
    """A key for everything."""
    return make_key("admin")


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
