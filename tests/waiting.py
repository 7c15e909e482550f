"""Waiting for what other threads and processes do: on a condition, with a deadline."""

import time
from collections.abc import Callable

_LOOK_EVERY_S = 0.005


def wait_until(
    is_so: Callable[[], bool], within_s: float = 60.0, look_every_s: float = _LOOK_EVERY_S
) -> None:
    """Return once something is so; fails when that takes longer than `within_s`."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"the condition did not come true in {within_s:g} s"
        time.sleep(look_every_s)
