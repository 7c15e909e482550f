"""Fixtures of tests that need a run's row, held by them."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from ingest.database import write
from tests.trainer.runs import make_run
from trainer.journal.lease import Lease


@pytest.fixture
def lease(engine: Engine) -> Iterator[Lease]:
    """Of the run called `run`."""
    with write(engine) as session:
        make_run(session)
    with Lease(engine, "run", lease_s=30.0) as lease:
        yield lease
