"""How many cases a fuzz test tries: 2,000 in all, or as many as STOVETOP_FUZZ_CASES says.

`make soak` says 100,000. Each test takes its part of them, in per cent.
"""

import os

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

NUM_CASES = int(os.environ.get("STOVETOP_FUZZ_CASES", "2000"))


def cases(per_cent: int) -> hypothesis_settings:
    """A part of all cases; they share an installation on purpose: none may harm the next."""
    return hypothesis_settings(
        max_examples=max(1, NUM_CASES * per_cent // 100),
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.large_base_example,
            HealthCheck.data_too_large,
        ],
    )
