"""Whatever the API's description allows, and what it forbids: no answer is a bug of the server's.

schemathesis makes requests for each operation, good and bad ones, half of them about things that
are there; each answer must be one that the description names, in the form that it gives.
"""

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

from control_api.app import create_app
from ingest.database import write
from ingest.keys import Role, create_key
from ingest.settings import Settings
from ingest.slices import save_slice
from tests.control_api.rows import make_checkpoint, make_metrics, make_run, make_step

EXAMPLES = 20
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# Its requests are for "testserver", and many.
OPENED = {
    "allowed_hosts": "testserver",
    "max_changes_per_min": 10**9,
    "max_failures_per_min": 10**9,
}


@schemathesis.serializer("application/x-ndjson")
def lines(_context: object, value: object) -> bytes:
    """A body of lines, or of whatever was made in their place."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """The app, whose allowances do not end the test early."""
    return create_app(settings.model_copy(update=OPENED))


@pytest.fixture
def known(engine: Engine) -> dict[str, object]:
    """What is there, by the name of the path's parameter."""
    with write(engine) as session:
        save_slice(session, "all", "", actor="test", now=0.0)
        run = make_run(session)
        make_metrics(session, run, {1: 0.5, 2: None})
        make_step(session, run, 1, [1, 2])
        checkpoint = make_checkpoint(session, run, "before", 5)
        key = create_key(session, "viewer", "somebody")
    return {
        "run": "online",
        "checkpoint_id": checkpoint.checkpoint_id,
        "key_id": key.split("_")[1],
        "number": 1,
    }


def test_no_request_is_too_much_for_the_server(
    app: FastAPI,
    anonymous: TestClient,
    make_key: Callable[[Role], str],
    known: dict[str, Any],
) -> None:
    headers = {"Authorization": f"Bearer {make_key('admin')}"}
    known["command_id"] = anonymous.post(
        "/v1/runs/online/commands", json={"kind": "pause"}, headers=headers
    ).json()["command_id"]
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    failures: dict[str, Exception] = {}
    num_operations = 0
    for operation in schema.get_all_operations():
        num_operations += 1
        cases = operation.ok().as_strategy()

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=cases, is_known=st.booleans())
        def answers(case: schemathesis.Case, is_known: bool) -> None:
            if is_known:
                for name in case.path_parameters.keys() & known.keys():
                    case.path_parameters[name] = known[name]
            case.call_and_validate(headers=headers, checks=CHECKS)

        try:
            answers()
        except Exception as failure:  # noqa: BLE001  (all are wanted, not only the first)
            failures[operation.ok().label] = failure
    assert num_operations > 30
    assert not failures, "\n".join(f"{label}: {why}" for label, why in failures.items())
