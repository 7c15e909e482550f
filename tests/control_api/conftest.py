"""The real app over a fresh installation, and a client for each role."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from control_api.app import create_app
from ingest.database import write
from ingest.keys import Limits, Role, create_key
from ingest.settings import Settings

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
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def as_role(anonymous: TestClient, make_key: Callable[[Role], str]) -> AsRole:
    """Gives a client with a key of a role."""

    def client(role: Role) -> TestClient:
        headers = {"Authorization": f"Bearer {make_key(role)}"}
        return TestClient(anonymous.app, headers=headers, raise_server_exceptions=False)

    return client


@pytest.fixture
def limited(anonymous: TestClient, engine: Engine) -> Limited:
    """Gives a client with an operator's key of its own that has limits."""

    def client(**limits: Any) -> TestClient:
        with write(engine) as session:
            key = create_key(session, "operator", "agent", Limits(**limits))
        headers = {"Authorization": f"Bearer {key}"}
        return TestClient(anonymous.app, headers=headers, raise_server_exceptions=False)

    return client


@pytest.fixture
def viewer(as_role: AsRole) -> TestClient:
    """A client that may read."""
    return as_role("viewer")


@pytest.fixture
def operator(as_role: AsRole) -> TestClient:
    """A client that may change things."""
    return as_role("operator")
