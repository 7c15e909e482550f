"""The real parts that tests need: a broker, a database server, a browser."""

import os

import pytest


def need(missing: str | None) -> None:
    """Skip where a part is missing, for the reason that is given; in CI fail."""
    if missing is not None:
        assert not os.environ.get("CI"), missing
        pytest.skip(missing)
